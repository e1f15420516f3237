"""A choice that a parser reads."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.choice import Choice, FinishReason, Piece
from services.worker.engine import End, EndReason, Output
from services.worker.parsed import ParsedChoice
from services.worker.parsing import Apart, CallDelta, Ending, Told
from services.worker.text import Stop, TextStream
from tests.worker.test_choice import Letters

LENGTH = End(EndReason.LENGTH)
STOPPED = End(EndReason.STOPPED)


class Bracketed:
    """What comes after a "c" is the call "c" until a "d"; a "b" waits for what follows it."""

    def __init__(self) -> None:
        self.is_calling = False
        self.calls = 0
        self.held = ""
        self.fed: list[tuple[str, list[int]]] = []

    def feed(self, text: str, token_ids: Sequence[int]) -> Told:
        self.fed.append((text, list(token_ids)))
        told, self.held = self.held, ""
        calls: list[CallDelta] = []
        for letter in text:
            if letter == "c" and not self.is_calling:
                self.is_calling = True
                calls.append(CallDelta(self.calls, f"id{self.calls}", "c", ""))
                self.calls += 1
            elif letter == "d" and self.is_calling:
                self.is_calling = False
            elif self.is_calling:
                calls.append(CallDelta(self.calls - 1, "", "", letter))
            else:
                told += letter
        if told.endswith("b"):
            told, self.held = told[:-1], "b"
        return told, Apart("", tuple(calls)) if calls else None

    def finish(self, text: str, token_ids: Sequence[int], ending: Ending) -> Told:
        told, apart = self.feed(text, token_ids)
        return told + ("" if ending is Ending.CUT else self.held), apart


def parsed(*stops: str, named: bool = False, parser: Bracketed | None = None) -> ParsedChoice:
    choice = Choice(TextStream(Letters(), Stop(stops)), include_stop=False)
    return ParsedChoice(choice, parser or Bracketed(), ends_as_stop=named)


def told(pieces: Sequence[Piece]) -> tuple[str, str, str]:
    """The text, the calls' names with their arguments, and the reason."""
    calls = [call for piece in pieces if piece.apart for call in piece.apart.calls]
    finish = pieces[-1].finish
    return (
        "".join(piece.text for piece in pieces),
        "".join(f"{call.name}{call.arguments}" for call in calls),
        finish.reason.name if finish else "",
    )


@pytest.mark.parametrize(
    ("letters", "end", "says"),
    [
        pytest.param("aa", STOPPED, ("a", "", "STOP"), id="no-call-ends-with-stop"),
        pytest.param("acaed", LENGTH, ("a", "cae", "LENGTH"), id="the-limit-stays-the-limit"),
        pytest.param("acaeda", STOPPED, ("a", "cae", "TOOL_CALLS"), id="a-call"),
        pytest.param("cadcedz", STOPPED, ("", "cace", "TOOL_CALLS"), id="two-calls"),
        pytest.param("abz", STOPPED, ("ab", "", "STOP"), id="what-was-held-back-is-text"),
        pytest.param("ab", LENGTH, ("a", "", "LENGTH"), id="what-was-cut-off-is-not"),
    ],
)
def test_calls_are_apart_and_name_the_end(
    letters: str, end: End, says: tuple[str, str, str]
) -> None:
    ids = [ord(letter) - ord("a") for letter in letters]
    choice = parsed()
    assert told([choice.advance(Output(ids, end=end))]) == says


def test_a_call_by_name_ends_as_text_does() -> None:
    piece = parsed(named=True).advance(Output([2, 0, 3, 9], end=STOPPED))
    assert piece.finish is not None
    assert piece.finish.reason is FinishReason.STOP


def test_an_abort_tells_what_came() -> None:
    choice = parsed()
    choice.advance(Output([0, 1]))
    piece = choice.abort()
    assert (piece.text, piece.finish and piece.finish.reason) == ("", FinishReason.ABORTED)


def test_tokens_wait_for_their_text() -> None:
    parser = Bracketed()
    choice = parsed("yx", parser=parser)
    choice.advance(Output([24]))
    choice.advance(Output([0]))
    assert parser.fed == [("ya", [24, 0])]


def test_a_stop_string_drops_the_tokens_behind_it() -> None:
    piece = parsed("x").advance(Output([0, 23, 0, 0]))
    assert (piece.text, list(piece.token_ids)) == ("a", [0, 23])
    assert piece.finish is not None
    assert piece.finish.stop_text == "x"


class Braced(Bracketed):
    """Its calls have "{" and "}" for a "v" and a "w"."""

    def feed(self, text: str, token_ids: Sequence[int]) -> Told:
        return super().feed(text.replace("v", "{").replace("w", "}"), token_ids)


@pytest.mark.parametrize(
    ("letters", "says"),
    [
        pytest.param("acvx", ("a", "c{", "STOP"), id="amid-a-call"),
        pytest.param("acvwx", ("a", "c{}", "TOOL_CALLS"), id="behind-a-whole-call"),
        pytest.param("abx", ("ab", "", "STOP"), id="behind-what-was-no-call"),
    ],
)
def test_a_stop_string_cuts_a_call_off_as_the_limit_does(
    letters: str, says: tuple[str, str, str]
) -> None:
    choice = parsed("x", parser=Braced())
    assert told([choice.advance(Output([ord(letter) - ord("a") for letter in letters]))]) == says


LETTERS = st.lists(st.integers(0, 4), min_size=1, max_size=30)


@given(LETTERS, st.lists(st.integers(0, 30), max_size=6), st.sampled_from([STOPPED, LENGTH]))
def test_how_tokens_are_grouped_changes_nothing(ids: list[int], cuts: list[int], end: End) -> None:
    whole = parsed().advance(Output(ids, end=end))
    edges = sorted({0, *(cut for cut in cuts if cut < len(ids)), len(ids)})
    choice = parsed()
    pieces = [
        choice.advance(Output(ids[start:stop], end=end if stop == len(ids) else None))
        for start, stop in pairwise(edges)
    ]
    assert told(pieces) == told([whole])


@given(LETTERS, st.data())
def test_who_takes_over_tells_the_rest_and_nothing_twice(
    ids: list[int], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(ids) - 1))
    first, second = parsed(), parsed()
    before = [first.advance(Output([each])) for each in ids[:at]]
    assert second.resume(ids[:at], max_tokens=100) is None
    after = [second.advance(Output(ids[at:], end=STOPPED))]
    assert told([*before, *after]) == told([parsed().advance(Output(ids, end=STOPPED))])


def test_a_choice_that_was_complete_ends_at_once() -> None:
    choice = parsed("x")
    last = choice.resume([2, 0, 23], max_tokens=9)
    assert last is not None
    assert told([last]) == ("", "", "STOP")  # amid the call


def test_a_choice_at_its_limit_ends_at_once() -> None:
    last = parsed().resume([0, 0], max_tokens=2)
    assert last is not None
    assert told([last]) == ("", "", "LENGTH")
