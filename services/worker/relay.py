"""One run on its way from the engine's outputs to its request's deltas. Reads no clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.worker.choice import Choice, Finish, Piece
from services.worker.engine import FirstToken, Output, Run, TokenLogprobs
from services.worker.parsed import ParsedChoice
from services.worker.parsing import ParserBroken
from services.worker.reports import Prefill
from services.worker.requests import Accepted, Failure, FailureKind, Request
from services.worker.stages import FirstTokenTimes

PARSER_BROKE = Failure(
    FailureKind.PARSER, "the model's parser of tool calls and reasoning broke on its answer"
)


@dataclass(frozen=True, slots=True)
class Started:
    """What the first delta of a request tells."""

    cached_tokens: int
    times: FirstTokenTimes
    prompt_logprobs: Sequence[TokenLogprobs]


class Put(Protocol):
    """Takes what is new in a choice of a request. Called within the engine's step: never waits."""

    def __call__(self, choice: int, piece: Piece, started: Started | None, /) -> None: ...


@dataclass(slots=True, eq=False)
class Running:
    """A request that was admitted. `times` are known with its first token."""

    accepted: Accepted
    runs: list[Run]
    arrived_s: float
    times: FirstTokenTimes | None = None
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reasons: list[str] = field(default_factory=list)
    is_aborted: bool = False
    failure: Failure | None = None

    @property
    def request(self) -> Request:
        """As it was asked for."""
        return self.accepted.request


class Relay:
    """Puts a run's deltas until its choice has ended, or its request has failed."""

    def __init__(
        self,
        running: Running,
        run: Run,
        choice: Choice | ParsedChoice,
        put: Put,
        note: Callable[[Prefill], None],
    ) -> None:
        self.is_finished = False
        self._running = running
        self._run = run
        self._choice = choice
        self._put = put
        self._note = note
        self._handed_s = 0.0
        copies = running.request.choices // len(running.runs)  # equal choices run once
        self._choices = range(run.choice, run.choice + copies)

    def resume(self) -> None:
        """Take over what another worker generated, which may have been all of it."""
        accepted = self._running.accepted
        last = self._choice.resume(accepted.request.generated, accepted.max_tokens)
        if last is None and self._running.is_aborted:
            last = self._choice.abort()
        if last is not None and self._running.failure is None:
            self._hand_on(last, None)

    def handed(self, now_s: float) -> None:
        """Note that the engine gets the run now."""
        self._handed_s = now_s

    def push(self, output: Output) -> bool:
        """Put what an output brings; false when nothing more can come of the run."""
        running = self._running
        if running.failure is not None:
            return False
        started = None if output.first is None else self._begin(output.first)
        try:
            if running.is_aborted and output.end is None:  # it was, before the engine knew the run
                self._hand_on(self._choice.abort(), started)
            else:
                self._hand_on(self._choice.advance(output), started)
        except ParserBroken:
            running.failure = PARSER_BROKE
            return False
        return not self.is_finished

    def _begin(self, first: FirstToken) -> Started | None:
        running = self._running
        times = FirstTokenTimes(
            running.arrived_s, self._handed_s, first.scheduled_s, first.first_token_s
        )
        self._note(self._prefill(first, times))
        if running.times is not None:  # another choice began before
            return None
        running.times = times
        running.cached_tokens = first.cached_tokens
        return Started(first.cached_tokens, times, first.prompt_logprobs)

    def _prefill(self, first: FirstToken, times: FirstTokenTimes) -> Prefill:
        return Prefill(
            request_id=self._running.request.request_id,
            computed_tokens=len(self._run.tokens) - first.cached_tokens,
            cached_tokens=first.cached_tokens,
            queue_s=times.scheduled_s - times.handed_s,
            prefill_s=times.first_token_s - times.scheduled_s,
            decoding_requests=first.decoding_requests,
        )

    def _hand_on(self, piece: Piece, started: Started | None) -> None:
        if piece.finish is not None:
            self._finish(piece.finish)
        for choice in self._choices:
            self._put(choice, piece, started)
            started = None  # one of them tells it for all

    def _finish(self, finish: Finish) -> None:
        self.is_finished = True
        copies = len(self._choices)
        self._running.finish_reasons += [finish.reason.name.lower()] * copies
        self._running.completion_tokens += finish.completion_tokens * copies
