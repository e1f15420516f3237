"""The simulated engine's step: continuous batching over a block prefix cache. Pure.

Time is virtual: a step says how long it takes, and the caller waits or adds it up. The memory
of running requests is not modelled: `capacity_blocks` bounds the prefix cache alone.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from services.worker.engine import EngineLoad


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSettings:
    """The cost model and the sizes. Defaults are those of the measured peers' runs."""

    base_ms: float = 8.0
    prefill_us: float = 60.0  # for each prompt token that is computed
    decode_us: float = 100.0  # for each request that gets a token
    budget: int = 2048  # prompt tokens in a step
    max_running: int = 256
    capacity_blocks: int = 4096
    block_size: int = 16
    adapter_load_ms: float = 50.0
    max_loras: int = 4  # adapters loaded at once

    def __post_init__(self) -> None:
        for name in ("base_ms", "prefill_us", "decode_us", "adapter_load_ms"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("budget", "max_running", "capacity_blocks", "block_size", "max_loras"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")


def read_settings(text: str) -> SimSettings:
    """Read `KEY=VALUE,…`. Raises ValueError, in one line, for what is not a setting."""
    known = {each.name: each.type for each in fields(SimSettings)}
    values: dict[str, float | int] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise ValueError(f"{name!r} is no setting; known are {', '.join(known)}")
        values[name] = _number(name, value, whole=known[name] is int)
    return SimSettings(**values)  # type: ignore[arg-type]


def _number(name: str, text: str, whole: bool) -> float | int:
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{name} must be a number, got {text!r}") from error
    if not whole:
        return value
    if not value.is_integer():
        raise ValueError(f"{name} must be a whole number, got {text!r}")
    return int(value)


class Tokens(Protocol):
    """The tokens of one run, as the core sees them: how many, and which blocks they fill."""

    def __len__(self) -> int: ...

    def add_next(self) -> int:
        """Choose the next token, add it and return it."""

    def block_hashes(self, full_blocks: int) -> Sequence[int]:
        """The chained hashes of the first blocks; at least `full_blocks` of them."""


@dataclass(slots=True, eq=False)
class SimRun:
    """A run's place in the engine. Only the core writes here after `submit`."""

    run_id: str
    tokens: Tokens
    max_tokens: int
    priority: int = 0  # lower goes first
    cached_tokens: int = 0
    computed: int = 0  # tokens whose keys and values exist
    made: int = 0
    stored_blocks: int = 0
    prompt_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.tokens)

    @property
    def to_prefill(self) -> int:
        """Prompt tokens still to compute; none once the run decodes."""
        return self.prompt_tokens - self.computed if not self.made else 0


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks `first` … `last - 1` of a run entered the cache."""

    run: SimRun
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks that were evicted."""

    hashes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Step:
    """A step that has begun."""

    duration_s: float
    admitted: Sequence[SimRun]
    decoding: int


@dataclass(frozen=True, slots=True)
class Emitted:
    """A token that a step brought."""

    run: SimRun
    token: int
    is_last: bool


class PrefixCache:
    """Which blocks are cached: least recently used goes first."""

    def __init__(self, capacity_blocks: int) -> None:
        self._capacity = capacity_blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def hit(self, hashes: Sequence[int]) -> int:
        """How many of these blocks, from the first on, are cached. They count as used."""
        found = 0
        for block in hashes:
            if block not in self._blocks:
                break
            found += 1
        self.touch(hashes[:found])
        return found

    def touch(self, hashes: Sequence[int]) -> None:
        """Mark as used; a chain's head last, so that eviction takes its useless tail first."""
        for block in reversed(hashes):
            if block in self._blocks:
                self._blocks.move_to_end(block)

    def store(self, block: int) -> bool:
        """Add a block; false when it is cached already."""
        if block in self._blocks:
            self._blocks.move_to_end(block)
            return False
        self._blocks[block] = None
        return True

    def evict(self) -> list[int]:
        """Remove what is over the capacity."""
        over = len(self._blocks) - self._capacity
        return [self._blocks.popitem(last=False)[0] for _ in range(over)]


class SimCore:
    """The engine's state. Call `begin`, let the step's time pass, call `finish`."""

    def __init__(self, settings: SimSettings) -> None:
        self.settings = settings
        self.waiting: deque[SimRun] = deque()
        self.running: dict[str, SimRun] = {}
        self.cache = PrefixCache(settings.capacity_blocks)
        self.changes: list[Stored | Removed] = []  # the caller takes them after `finish`
        self.steps = 0
        self.step_time_s = 0.0
        self.generated_tokens = 0
        self.prefix_queried_tokens = 0
        self.prefix_hit_tokens = 0
        self._duration_s = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether a step would do nothing."""
        return not self.waiting and not self.running

    @property
    def queued_prefill_tokens(self) -> int:
        """Prompt tokens that are not computed yet."""
        waiting = sum(run.prompt_tokens for run in self.waiting)
        return waiting + sum(run.to_prefill for run in self.running.values())

    @property
    def kv_usage(self) -> float:
        """The part of the cache that running requests would hold, at most 1."""
        size = self.settings.block_size
        blocks = sum(-(-len(run.tokens) // size) for run in self.running.values())
        return min(1.0, blocks / self.settings.capacity_blocks)

    @property
    def load(self) -> EngineLoad:
        """How the engine fares."""
        return EngineLoad(
            running=len(self.running),
            waiting=len(self.waiting),
            queued_prefill_tokens=self.queued_prefill_tokens,
            kv_usage=self.kv_usage,
            steps=self.steps,
            step_time_s=self.step_time_s,
            generated_tokens=self.generated_tokens,
            prefix_queried_tokens=self.prefix_queried_tokens,
            prefix_hit_tokens=self.prefix_hit_tokens,
        )

    def submit(self, run: SimRun) -> None:
        """Queue a run: by priority, and first come, first served within one."""
        place = len(self.waiting)
        while place and self.waiting[place - 1].priority > run.priority:
            place -= 1
        self.waiting.insert(place, run)

    def abort(self, run_id: str) -> SimRun | None:
        """End a run at once; None when there is none of this id."""
        run = self.running.pop(run_id, None)
        if run is not None:
            self._release(run)
            return run
        run = next((each for each in self.waiting if each.run_id == run_id), None)
        if run is not None:
            self.waiting.remove(run)
        return run

    def begin(self) -> Step:
        """Plan a step: prefill within the budget, those that run first; decode all others."""
        budget = self.settings.budget
        admitted: list[SimRun] = []
        for run in self.running.values():
            budget -= self._prefill(run, budget)
        while self.waiting and budget > 0 and len(self.running) < self.settings.max_running:
            run = self._admit(self.waiting.popleft())
            admitted.append(run)
            budget -= self._prefill(run, budget)
        self._evict()
        return self._plan(self.settings.budget - budget, admitted)

    def finish(self) -> list[Emitted]:
        """End the step that was begun: every run whose prompt is computed gets a token."""
        self.steps += 1
        self.step_time_s += self._duration_s
        emitted = [self._decode(run) for run in self.running.values() if not run.to_prefill]
        for each in emitted:
            if each.is_last:
                del self.running[each.run.run_id]
                self._release(each.run)
        self._evict()
        self.generated_tokens += len(emitted)
        return emitted

    def take_changes(self) -> Iterator[Stored | Removed]:
        """What changed in the cache since this was last asked."""
        changes, self.changes = self.changes, []
        return iter(changes)

    def _plan(self, prefilled: int, admitted: list[SimRun]) -> Step:
        costs = self.settings
        decoding = sum(not run.to_prefill for run in self.running.values())
        micros = costs.base_ms * 1e3 + costs.prefill_us * prefilled + costs.decode_us * decoding
        self._duration_s = micros / 1e6
        return Step(self._duration_s, admitted, decoding)

    def _admit(self, run: SimRun) -> SimRun:
        full_blocks = run.prompt_tokens // self.settings.block_size
        hits = self.cache.hit(run.tokens.block_hashes(full_blocks)[:full_blocks])
        # The last token is always computed: its logits choose the next one.
        run.cached_tokens = min(hits * self.settings.block_size, run.prompt_tokens - 1)
        run.computed = run.cached_tokens
        run.stored_blocks = run.cached_tokens // self.settings.block_size
        self.prefix_queried_tokens += run.prompt_tokens
        self.prefix_hit_tokens += run.cached_tokens
        self.running[run.run_id] = run
        return run

    def _prefill(self, run: SimRun, budget: int) -> int:
        chunk = min(budget, run.to_prefill)
        if chunk:
            run.computed += chunk
            self._store(run)
        return chunk

    def _decode(self, run: SimRun) -> Emitted:
        if run.made:  # the step computed the token that the step before chose
            run.computed += 1
            self._store(run)
        token = run.tokens.add_next()
        run.made += 1
        return Emitted(run, token, run.made >= run.max_tokens)

    def _store(self, run: SimRun) -> None:
        full_blocks = run.computed // self.settings.block_size
        if full_blocks == run.stored_blocks:
            return
        hashes = run.tokens.block_hashes(full_blocks)
        first = run.stored_blocks
        for index in range(first, full_blocks):
            if not self.cache.store(hashes[index]):
                self._tell_stored(run, first, index)
                first = index + 1
        self._tell_stored(run, first, full_blocks)
        run.stored_blocks = full_blocks

    def _tell_stored(self, run: SimRun, first: int, last: int) -> None:
        if first < last:
            self.changes.append(Stored(run, first, last))

    def _release(self, run: SimRun) -> None:
        self.cache.touch(run.tokens.block_hashes(run.stored_blocks)[: run.stored_blocks])

    def _evict(self) -> None:
        gone = self.cache.evict()
        if gone:
            self.changes.append(Removed(gone))
