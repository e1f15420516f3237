"""What a simulated worker tells the scheduler, as values. Pure."""

from collections.abc import Iterable
from itertools import groupby

from services.worker.sim_core import Removed, Stored

Blocks = tuple[int, ...]


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
