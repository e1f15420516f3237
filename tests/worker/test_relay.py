"""A run's outputs, on their way to its request's deltas."""

from collections.abc import Sequence

from services.worker.choice import Choice, FinishReason, Piece
from services.worker.engine import End, EndReason, FirstToken, Output, Sampling
from services.worker.parsed import ParsedChoice
from services.worker.parsing import Ending, ParserBroken, Told
from services.worker.relay import PARSER_BROKE, Relay, Running, Started
from services.worker.reports import Prefill
from services.worker.requests import Accepted, Failure, FailureKind, Request, runs
from services.worker.text import Stop, TextStream
from tests.worker.test_choice import Letters

FIRST = FirstToken(cached_tokens=1, scheduled_s=2.0, first_token_s=5.0, decoding_requests=7)
FAILURE = Failure(FailureKind.UNAVAILABLE, "the worker is shutting down")


class Relayed:
    """A request of some choices, and what was put for it."""

    def __init__(self, choices: int = 1, temperature: float = 0.0, generated: int = 0) -> None:
        request = Request(
            request_id="r",
            model="m",
            prompt=[1, 2, 3],
            generated=[0] * generated,
            sampling=Sampling(temperature=temperature),
            choices=choices,
        )
        accepted = Accepted(request, max_tokens=4)
        self.running = Running(accepted, runs(accepted), arrived_s=0.5)
        self.put: list[tuple[int, Piece, Started | None]] = []
        self.prefills: list[Prefill] = []
        self.relays = [
            Relay(self.running, run, choice(), self._put, self.prefills.append)
            for run in self.running.runs
        ]
        for relay in self.relays:
            relay.handed(1.0)

    def _put(self, choice: int, piece: Piece, started: Started | None, /) -> None:
        self.put.append((choice, piece, started))

    def finishes(self) -> list[tuple[int, FinishReason]]:
        return [(choice, piece.finish.reason) for choice, piece, _ in self.put if piece.finish]


class Breaks:
    """A parser that cannot go on."""

    def feed(self, text: str, token_ids: Sequence[int]) -> Told:
        raise ParserBroken

    def finish(self, text: str, token_ids: Sequence[int], ending: Ending) -> Told:
        raise ParserBroken


def choice() -> Choice:
    return Choice(TextStream(Letters(), Stop()), include_stop=False)


def test_equal_choices_run_once_and_are_put_for_each() -> None:
    relayed = Relayed(choices=3)
    (relay,) = relayed.relays
    assert relay.push(Output([0], FIRST))
    assert not relay.push(Output([1], end=End(EndReason.LENGTH)))
    assert [(number, piece.text) for number, piece, _ in relayed.put] == [
        *[(each, "a") for each in range(3)],
        *[(each, "b") for each in range(3)],
    ]
    assert [started is not None for *_, started in relayed.put] == [True, *[False] * 5]
    assert relayed.running.finish_reasons == ["length"] * 3
    assert relayed.running.completion_tokens == 6


def test_the_first_choice_to_begin_tells_for_all_and_each_has_its_prefill() -> None:
    relayed = Relayed(choices=2, temperature=1.0)
    for relay in reversed(relayed.relays):
        relay.push(Output([0], FIRST))
    assert [(number, started is not None) for number, _, started in relayed.put] == [
        (1, True),
        (0, False),
    ]
    assert [(each.computed_tokens, each.cached_tokens) for each in relayed.prefills] == [(2, 1)] * 2
    prefill = relayed.prefills[0]
    assert (prefill.queue_s, prefill.prefill_s, prefill.decoding_requests) == (1.0, 3.0, 7)


def test_a_request_that_failed_gets_no_more() -> None:
    relayed = Relayed()
    (relay,) = relayed.relays
    relay.push(Output([0], FIRST))
    relayed.running.failure = FAILURE
    assert not relay.push(Output([], end=End(EndReason.ABORTED)))
    assert not relay.is_finished
    assert len(relayed.put) == 1


def test_an_abort_that_came_before_the_engine_knew_the_run_ends_it_with_its_first_output() -> None:
    relayed = Relayed()
    (relay,) = relayed.relays
    relayed.running.is_aborted = True
    assert not relay.push(Output([0], FIRST))
    assert relayed.finishes() == [(0, FinishReason.ABORTED)]
    assert relayed.running.completion_tokens == 0


def test_an_aborted_run_that_ends_says_how() -> None:
    relayed = Relayed()
    (relay,) = relayed.relays
    relayed.running.is_aborted = True
    relay.push(Output([0], FIRST, End(EndReason.LENGTH)))
    assert relayed.finishes() == [(0, FinishReason.LENGTH)]


def test_what_another_worker_completed_needs_no_engine() -> None:
    relayed = Relayed(generated=4)
    (relay,) = relayed.relays
    relay.resume()
    assert relay.is_finished
    assert relayed.finishes() == [(0, FinishReason.LENGTH)]


def test_a_request_that_failed_while_it_waited_is_not_resumed_to_its_end() -> None:
    relayed = Relayed(generated=4)
    (relay,) = relayed.relays
    relayed.running.failure = FAILURE
    relay.resume()
    assert not relay.is_finished
    assert relayed.put == []


def test_a_parser_that_breaks_fails_its_request_and_ends_the_run() -> None:
    relayed = Relayed(choices=2, temperature=1.0)
    first, second = relayed.relays
    first._choice = ParsedChoice(choice(), Breaks(), ends_as_stop=False)
    assert not first.push(Output([0], FIRST))
    assert relayed.running.failure is PARSER_BROKE
    assert not second.push(Output([0]))
    assert relayed.put == []
