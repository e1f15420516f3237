"""The engine port: what this worker asks of an engine, and what it hears. Pure."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, Protocol

EngineHash = bytes | int  # the engine's own name for a block: an identity, never interpreted


class EngineRefused(Exception):
    """The engine does not take this request; `parameter` names what is at fault, or is empty."""

    def __init__(self, message: str, parameter: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.parameter = parameter


class EngineFull(Exception):
    """The engine has no room for another request now."""


class AdapterRefused(Exception):
    """The engine cannot load an adapter. Says nothing that a caller may not read."""


class EngineBroken(Exception):
    """The engine, or this run of it, broke. Says nothing that a caller may not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What does not change while the engine runs."""

    engine: str
    block_size: int
    capacity_blocks: int  # 0: no prefix cache
    max_running: int
    step_budget_tokens: int
    max_model_tokens: int
    vocabulary_size: int
    adapter_slots: int = 0  # adapters that can be loaded at once


class ConstraintKind(Enum):
    """The forms that an output can be held to."""

    JSON_SCHEMA = auto()
    ANY_JSON_OBJECT = auto()
    REGEX = auto()
    GRAMMAR = auto()
    TEXTS = auto()
    STRUCTURAL_TAG = auto()


@dataclass(frozen=True, slots=True)
class Constraint:
    """A form that the output must have; one text, except for TEXTS and ANY_JSON_OBJECT.

    `parameter` is what of the request asked for it.
    """

    kind: ConstraintKind
    texts: tuple[str, ...]
    parameter: str = "constraint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an engine chooses tokens. Stop strings are not its business: it sees no text."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all tokens
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    constraint: Constraint | None = None
    # The chat template's variables, where the model reasons before the constraint holds.
    thinking: Mapping[str, object] | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether all choices are equal."""
        return self.temperature == 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One choice to generate."""

    run_id: str  # unique among the engine's runs
    tokens: Sequence[int]  # the prompt, then what another worker generated already
    generated: int  # how many of `tokens` were generated
    choice: int
    max_tokens: int  # still to generate, at least 1
    min_tokens: int  # before an end token counts
    sampling: Sampling
    adapter: str = ""  # loaded before
    cache_salt: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probability; None for a prompt's first token, which has none."""

    token_id: int
    logprob: float | None


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token and its likeliest alternatives, likeliest first."""

    token: TokenLogprob
    top: tuple[TokenLogprob, ...]
    rank: int | None = None  # the token's own among the whole vocabulary, from 1


class EndReason(Enum):
    """Why the engine ended a run."""

    STOPPED = auto()  # by an end token or a stop token, which is the last token
    LENGTH = auto()
    ABORTED = auto()


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended; `stop_token_id` is a stop token of the caller's that ended it."""

    reason: EndReason
    stop_token_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """What is known with the first token. Times are readings of this host's monotonic clock."""

    cached_tokens: int
    scheduled_s: float
    first_token_s: float
    decoding_requests: int  # that were decoding beside it
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()


class Output(NamedTuple):
    """What is new in a run: a step's token, or several tokens.

    One is made for each token, and a tuple is made in half the time of a frozen dataclass.
    """

    token_ids: Sequence[int]
    first: FirstToken | None = None  # in the first output
    end: End | None = None  # in the last output
    logprobs: tuple[TokenLogprobs, ...] = ()  # one for each token, where asked for


Push = Callable[[Output], bool]  # takes an output; false when no more of the run is wanted


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Full blocks that follow each other after `parent`; None is the root of a prompt."""

    hashes: Sequence[EngineHash]
    parent: EngineHash | None
    token_ids: Sequence[int]
    block_size: int
    adapter: str = ""
    cache_salt: str = ""  # known for a prompt's first block only


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    """One copy of each block is gone."""

    hashes: Sequence[EngineHash]


@dataclass(frozen=True, slots=True)
class CacheForgotten:
    """The cache was emptied, or events were lost for good: what was known is worthless."""


KvEvent = BlocksStored | BlocksRemoved | CacheForgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """The load now; totals count from the engine's start."""

    running: int = 0
    waiting: int = 0
    queued_prefill_tokens: int = 0
    kv_usage: float = 0.0
    steps: int = 0
    step_time_s: float = 0.0
    generated_tokens: int = 0
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0


class Engine(Protocol):
    """Generates or embeds, on token ids alone."""

    async def start(self) -> EngineFacts:
        """Load the model; return when the first run would not wait for anything."""

    async def stop(self) -> None:
        """End all runs and give everything back. May be called at any time, also twice."""

    async def generate(self, run: Run, push: Push) -> None:
        """Generate one choice; return once it has ended, or `push` wants no more of it.

        Every output is pushed within the step that brings it; who awaits nothing but the end is
        not woken before. None comes after the last, nor after a cancellation, which ends the run.
        What `push` raises breaks this run alone.
        Raises EngineRefused, EngineFull or EngineBroken.
        """

    async def abort(self, run_ids: Sequence[str]) -> None:
        """End runs with ABORTED; return when the engine computes for them no more."""

    async def embed(self, run_id: str, tokens: Sequence[int]) -> Sequence[float]:
        """Embed one input; cancelling ends it. Raises as `generate` does."""

    async def load_adapter(self, name: str) -> None:
        """Load a configured adapter; there is a slot for it.

        Raises AdapterRefused or EngineBroken.
        """

    async def unload_adapter(self, name: str) -> None:
        """Free an adapter's slot; no run uses it. Raises EngineBroken."""

    def kv_events(self) -> AsyncIterator[Sequence[KvEvent]]:
        """What changes in the cache, from the engine's start on, each batch in order."""

    def load(self) -> EngineLoad:
        """The load now."""

    async def died(self) -> str:
        """Return when the engine has died, with one line on how."""
