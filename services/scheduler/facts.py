"""What the scheduler is told, as values. Pure."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

BY_HAND = 0
"""The owner of placements made with the unary `Place`; streams count from 1."""


class Kind(Enum):
    """What a worker serves."""

    GENERATE = "generate"
    EMBED = "embed"


class Pool(NamedTuple):
    """The workers that can run a request: they serve this model, adapter and kind."""

    model: str
    adapter: str
    kind: Kind

    def __str__(self) -> str:
        adapter = f" with adapter {self.adapter!r}" if self.adapter else ""
        purpose = " for embeddings" if self.kind is Kind.EMBED else ""
        return f"model {self.model!r}{adapter}{purpose}"


class Key(NamedTuple):
    """Names a request: ids are unique within their owner only."""

    owner: int
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to place. `deadline_s` and `arrived_s` are readings of one clock."""

    key: Key
    pool: Pool
    prompt_tokens: int
    max_tokens: int = 0
    block_hashes: tuple[int, ...] = ()
    block_size: int = 16
    tenant: str = ""
    priority: int = 0
    excluded_workers: frozenset[str] = frozenset()
    arrived_s: float = 0.0
    deadline_s: float | None = None
    lease_s: float | None = None
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who a worker is, for as long as its epoch lasts."""

    worker_id: str
    address: str
    epoch: int
    kind: Kind
    models: tuple[str, ...]
    adapters: tuple[str, ...] = ()
    block_size: int
    capacity_blocks: int
    max_running: int
    step_budget_tokens: int
    max_model_tokens: int
    engine: str = ""

    def pools(self) -> list[Pool]:
        """Every pool that the worker is in."""
        names = ("", *self.adapters)
        return [Pool(model, adapter, self.kind) for model in self.models for adapter in names]

    @property
    def cache_tokens(self) -> int:
        """Tokens of one request that its cache can hold."""
        # Without a prefix cache the engine still has memory, but says nothing of it.
        return self.capacity_blocks * self.block_size or self.max_model_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillTiming:
    """One prefill, as the engine timed it."""

    request_id: str
    computed_tokens: int
    cached_tokens: int = 0
    queue_us: int = 0
    prefill_us: int
    decoding_requests: int = 0


@dataclass(frozen=True, slots=True)
class AdapterLoad:
    """One load of an adapter, as the worker timed it."""

    adapter: str
    load_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a worker fares now, and its timings since the report before."""

    running_requests: int = 0
    waiting_requests: int = 0
    queued_prefill_tokens: int = 0
    kv_usage: float = 0.0
    prefills: tuple[PrefillTiming, ...] = ()
    steps: int = 0
    step_time_us: int = 0
    generated_tokens: int = 0
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0
    draining: bool = False
    loaded_adapters: tuple[str, ...] = ()
    adapter_loads: tuple[AdapterLoad, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KvChange:
    """What changed in a worker's cache; `removed` happened after `stored`."""

    sequence: int
    snapshot: bool = False
    stored: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
