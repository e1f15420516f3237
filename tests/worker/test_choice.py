"""One choice, from outputs to pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.choice import Choice, Finish, FinishReason, Piece
from services.worker.engine import End, EndReason, Output, TokenLogprob, TokenLogprobs
from services.worker.text import Decoder, Stop, TextStream


class Letters(Decoder):
    """Token 0 is "a", 1 is "b", and so on."""

    def __init__(self) -> None:
        """No tokenizer is needed."""

    def step(self, token_id: int) -> str:
        return chr(ord("a") + token_id)


def choice(*stops: str, include: bool = False, after: int = 0) -> Choice:
    return Choice(TextStream(Letters(), Stop(stops, include, after)), include)


STOPPED = End(EndReason.STOPPED)
LENGTH = End(EndReason.LENGTH)


@pytest.mark.parametrize(
    ("output", "piece"),
    [
        pytest.param(Output([0]), Piece("a", [0]), id="a-token"),
        pytest.param(Output([0, 1]), Piece("ab", [0, 1]), id="merged-steps"),
        pytest.param(
            Output([0], end=LENGTH),
            Piece("a", [0], finish=Finish(FinishReason.LENGTH, 1)),
            id="the-limit",
        ),
        pytest.param(
            Output([0, 9], end=STOPPED),
            Piece("a", [0, 9], finish=Finish(FinishReason.STOP, 2)),
            id="an-end-token-counts-but-has-no-text",
        ),
        pytest.param(
            Output([0, 9], end=End(EndReason.STOPPED, 9)),
            Piece("a", [0, 9], finish=Finish(FinishReason.STOP, 2, stop_token_id=9)),
            id="a-stop-token-is-named",
        ),
        pytest.param(
            Output([], end=End(EndReason.ABORTED)),
            Piece("", [], finish=Finish(FinishReason.ABORTED, 0)),
            id="an-abort",
        ),
        pytest.param(
            Output([0, 23, 1, 2]),
            Piece("a", [0, 23], finish=Finish(FinishReason.STOP, 2, "x")),
            id="tokens-beyond-a-stop-string-are-dropped",
        ),
        pytest.param(
            Output([0, 24], end=LENGTH),
            Piece("ay", [0, 24], finish=Finish(FinishReason.LENGTH, 2)),
            id="what-was-held-back-comes-out-at-the-end",
        ),
    ],
)
def test_outputs_become_pieces(output: Output, piece: Piece) -> None:
    assert choice("x", "yz").advance(output) == piece


def test_include_stop_keeps_a_stop_tokens_text() -> None:
    assert choice(include=True).advance(Output([0, 9], end=STOPPED)).text == "aj"


class WithoutZ(Letters):
    """Token 25, which is special, has no text."""

    def step(self, token_id: int) -> str:
        return "" if token_id == 25 else super().step(token_id)


def likely(*token_ids: int) -> tuple[TokenLogprobs, ...]:
    return tuple(TokenLogprobs(TokenLogprob(each, -1.0), ()) for each in token_ids)


def test_a_skipped_token_has_no_logprobs() -> None:
    passing = Choice(TextStream(WithoutZ(), Stop()), include_stop=False, skipped={25})
    piece = passing.advance(Output([0, 25, 1], logprobs=likely(0, 25, 1)))
    assert (piece.text, piece.logprobs, piece.offsets) == ("ab", likely(0, 1), (0, 1))


def test_a_skipped_token_whose_text_a_parser_needs_has_them() -> None:
    read = Choice(TextStream(Letters(), Stop()), include_stop=False, skipped={25})
    assert read.advance(Output([0, 25], logprobs=likely(0, 25))).logprobs == likely(0, 25)


def test_include_stop_shows_no_end_token_that_is_skipped() -> None:
    ending = Choice(TextStream(Letters(), Stop(include=True)), include_stop=True, skipped={25})
    piece = ending.advance(Output([0, 25], end=STOPPED, logprobs=likely(0, 25)))
    assert (piece.text, piece.logprobs) == ("a", likely(0))


def test_logprobs_are_cut_with_the_tokens() -> None:
    logprobs = tuple(TokenLogprobs(TokenLogprob(each, -1.0), ()) for each in (23, 1))
    piece = choice("x").advance(Output([23, 1], logprobs=logprobs))
    assert (piece.logprobs, piece.offsets) == (logprobs[:1], (0,))


def test_logprobs_say_where_their_text_begins_and_leave_the_end_token_out() -> None:
    held = choice("yz")
    logprobs = tuple(TokenLogprobs(TokenLogprob(each, -1.0), ()) for each in (0, 24, 1))
    first = held.advance(Output([0, 24], logprobs=logprobs[:2]))
    assert (first.text, first.offsets) == ("a", (0, 1))
    last = held.advance(Output([1, 9], end=STOPPED, logprobs=(logprobs[2], logprobs[0])))
    assert (last.text, last.logprobs, last.offsets) == ("yb", (logprobs[2],), (2,))


def test_abort_gives_what_was_held_back() -> None:
    aborted = choice("yz")
    aborted.advance(Output([24]))
    assert aborted.abort() == Piece("y", (), finish=Finish(FinishReason.ABORTED, 1))


@pytest.mark.parametrize(
    ("generated", "max_tokens", "finish"),
    [
        pytest.param([0, 1], 5, None, id="goes-on"),
        pytest.param([0, 1], 2, Finish(FinishReason.LENGTH, 2), id="was-at-its-limit"),
        pytest.param([0, 23], 5, Finish(FinishReason.STOP, 2, "x"), id="was-stopped"),
    ],
)
def test_a_resumed_choice_may_have_been_complete(
    generated: list[int], max_tokens: int, finish: Finish | None
) -> None:
    last = choice("x").resume(generated, max_tokens)
    assert (last.finish if last else None) == finish


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=20)


@given(tokens, st.integers(0, 20), st.sampled_from([(), ("abc",), ("ca", "b")]), st.integers(0, 3))
def test_two_workers_together_say_what_one_says(
    ids: list[int], cut: int, stops: tuple[str, ...], after: int
) -> None:
    """The first worker dies after `cut` tokens; what it held back the second one says."""
    alone, first, second = (choice(*stops, after=after) for _ in range(3))
    outputs = [Output([each]) for each in ids[:-1]] + [Output(ids[-1:], end=LENGTH)]
    pieces = until_finished(alone, outputs)
    before = until_finished(first, outputs[:cut])
    finished = bool(before) and before[-1].finish is not None
    assert second.resume([] if finished else ids[:cut], len(ids) + 1) is None
    after_it = [] if finished else until_finished(second, outputs[cut:])
    if cut < len(ids) or finished:
        assert text(before + after_it) == text(pieces)
        assert (before + after_it)[-1].finish == pieces[-1].finish


def until_finished(choice: Choice, outputs: list[Output]) -> list[Piece]:
    pieces = []
    for output in outputs:
        pieces.append(choice.advance(output))
        if pieces[-1].finish is not None:
            break
    return pieces


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
