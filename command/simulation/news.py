"""What a simulated worker tells the scheduler, as values. Pure."""

from collections.abc import Iterable
from itertools import groupby

from services.worker.engine import EngineLoad
from services.worker.sim_core import Removed, SimCore, Stored

Blocks = tuple[int, ...]


def load(core: SimCore) -> EngineLoad:
    """How the engine fares."""
    return EngineLoad(
        running=len(core.running),
        waiting=len(core.waiting),
        queued_prefill_tokens=core.queued_prefill_tokens,
        kv_usage=core.kv_usage,
        steps=core.steps,
        step_time_s=core.step_time_s,
        generated_tokens=core.generated_tokens,
        prefix_queried_tokens=core.prefix_queried_tokens,
        prefix_hit_tokens=core.prefix_hit_tokens,
    )


def batches(changes: Iterable[Stored | Removed]) -> list[tuple[Blocks, Blocks]]:
    """Stored and removed blocks, in order: within a batch, removing comes last."""
    found: list[tuple[Blocks, Blocks]] = []
    stored: Blocks = ()
    for removes, group in groupby(changes, lambda change: isinstance(change, Removed)):
        blocks = tuple(block for change in group for block in _blocks(change))
        if removes:
            found.append((stored, blocks))
            stored = ()
        else:
            stored = blocks
    return [*found, (stored, ())] if stored else found


def _blocks(change: Stored | Removed) -> Iterable[int]:
    if isinstance(change, Removed):
        return change.hashes
    return change.run.tokens.block_hashes(change.last)[change.first : change.last]
