"""What was promised, beside what was measured. Pure: `reached` is computed, never written."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.overhead.gateways import DIRECT, HEADWAY, HEADWAY_VLLM, SMG_GRPC, TWO_EDGES, VLLM_SERVE
from bench.overhead.results import Result, Results
from bench.overhead.turns import AFRESH, KEPT


@dataclass(frozen=True, slots=True)
class Of:
    """A figure of a subject, or what it is more than another subject's."""

    subject: str
    figure: str
    less: str = ""
    """The subject whose figure is taken off."""
    load: int | None = 0
    """Which of the case's loads, by place; None: the one with the highest figure."""

    def value(self, result: Result) -> float | None:
        """The median over the repeats; None when something is missing."""
        if self.load is None:
            values = [self._at(load, result) for load in result.loads]
            return max((value for value in values if value is not None), default=None)
        return self._at(result.loads[self.load], result) if self.load < len(result.loads) else None

    def _at(self, load: str, result: Result) -> float | None:
        value = result.median(self.subject, self.figure, load)
        if not self.less or value is None:
            return value
        other = result.median(self.less, self.figure, load)
        return None if other is None else value - other


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Ours is at most `times` theirs, and `plus`; or at least."""

    case: str
    what: str
    ours: Of
    theirs: Of | None = None
    times: float = 1.0
    plus: float = 0.0
    at_least: bool = False

    @property
    def limit(self) -> str:
        """The promise, in words."""
        sign = "≥" if self.at_least else "≤"
        if self.theirs is None:
            return f"{sign} {self.plus:,g}"
        more = f" + {self.plus:g}" if self.plus else ""
        return f"{sign} {self.times:g} x{more}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A budget, and what became of it."""

    budget: Budget
    ours: float | None
    theirs: float | None

    @property
    def ratio(self) -> float | None:
        """Ours over theirs; None where that says nothing."""
        if self.ours is None or self.theirs is None or self.theirs <= 0:
            return None
        return self.ours / self.theirs

    @property
    def is_reached(self) -> bool | None:
        """None when it was not measured."""
        budget = self.budget
        theirs = 0.0 if budget.theirs is None else self.theirs
        if self.ours is None or theirs is None:
            return None
        bound = budget.times * theirs + budget.plus
        return self.ours >= bound if budget.at_least else self.ours <= bound


def verdict(budget: Budget, results: Results) -> Verdict:
    """What became of a budget, by the medians."""
    result = results.get(budget.case)
    return Verdict(budget, None, None) if result is None else _judged(budget, result)


def times_reached(budget: Budget, result: Result) -> int:
    """In how many of the repeats, each by itself."""
    repeats = range(result.repeats)
    return sum(_judged(budget, result.only(each)).is_reached is True for each in repeats)


def _judged(budget: Budget, result: Result) -> Verdict:
    theirs = None if budget.theirs is None else budget.theirs.value(result)
    return Verdict(budget, budget.ours.value(result), theirs)


def _beside_smg(case: str, what: str, figure: str, times: float = 1.0, less: str = "") -> Budget:
    ours, theirs = Of(HEADWAY, figure, less), Of(SMG_GRPC, figure, less)
    return Budget(case=case, what=what, ours=ours, theirs=theirs, times=times)


_CPU_A_TOKEN, _CPU_A_REQUEST = "gateway CPU, µs a streamed token", "gateway CPU, ms a request"
_GAP = "gap between tokens, p99, ms"

BUDGETS: Sequence[Budget] = (
    _beside_smg("stream64", _CPU_A_TOKEN, "cpu_us_a_token", 0.6),
    _beside_smg("stream256", _CPU_A_TOKEN, "cpu_us_a_token", 0.6),
    _beside_smg("short", _CPU_A_REQUEST, "cpu_ms_a_request", 0.9),
    Budget(
        case="short",
        what="requests/s",
        ours=Of(HEADWAY, "requests_per_s"),
        theirs=Of(SMG_GRPC, "requests_per_s"),
        at_least=True,
    ),
    _beside_smg("long", _CPU_A_REQUEST, "cpu_ms_a_request", 0.5),
    _beside_smg("low", "TTFT added to the engine's, p50, ms", "ttft_p50_ms", less=DIRECT),
    _beside_smg("low", "TTFT added to the engine's, p99, ms", "ttft_p99_ms", less=DIRECT),
    _beside_smg("stream64", _GAP, "gap_p99_ms"),
    _beside_smg("stream256", _GAP, "gap_p99_ms"),
    _beside_smg("low", _GAP, "gap_p99_ms"),
    Budget(
        case="turns",
        what="tokenizer CPU of the last turn, ms",
        ours=Of(KEPT, "tokenizer_ms_a_prompt"),
        theirs=Of(AFRESH, "tokenizer_ms_a_prompt"),
        times=0.2,
    ),
    Budget(
        case="edges",
        what="most requests/s with 2 edges against 1",
        ours=Of(TWO_EDGES, "requests_per_s", load=None),
        theirs=Of(HEADWAY, "requests_per_s", load=None),
        times=1.7,
        at_least=True,
    ),
    Budget(
        case="vllm",
        what="output tokens/s, 8 at once",
        ours=Of(HEADWAY_VLLM, "tokens_per_s"),
        theirs=Of(VLLM_SERVE, "tokens_per_s"),
        times=0.97,
        at_least=True,
    ),
    Budget(
        case="vllm",
        what="TTFT p50 at a low rate, ms",
        ours=Of(HEADWAY_VLLM, "ttft_p50_ms", load=1),
        theirs=Of(VLLM_SERVE, "ttft_p50_ms", load=1),
        plus=5.0,
    ),
    Budget(
        case="idle",
        what="edge memory, kB a stream of 1,000",
        ours=Of(HEADWAY, "kb_a_stream"),
        plus=30.0,
    ),
)
