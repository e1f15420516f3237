"""From the engine's cache events to the hash chain of services.blocks. Pure.

The engine's own hashes serve as identities only: to know which block a removal means.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from services.blocks import HASH_BYTES, TOKEN_BYTES, block_hash, chain_root
from services.worker.engine import BlocksRemoved, BlocksStored, EngineHash


@dataclass(frozen=True, slots=True)
class Change:
    """Copies of blocks that came and went, as hashes in their wire form."""

    stored: bytes = b""
    removed: bytes = b""


@dataclass(slots=True)
class _Cached:
    value: int
    copies: int


class CachedBlocks:
    """What the engine caches now, by the engine's hash. Bounded by the engine's own cache."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._blocks: dict[EngineHash, _Cached] = {}
        self.untranslated = 0  # blocks stored whose parent was not known

    def __len__(self) -> int:
        """Distinct blocks."""
        return len(self._blocks)

    def apply(self, events: Sequence[BlocksStored | BlocksRemoved]) -> Change:
        """Note what happened; return it in our own hashes, a copy for a copy."""
        stored: list[int] = []
        removed: list[int] = []
        for event in events:
            if isinstance(event, BlocksStored):
                stored += self._store(event)
            else:
                removed += self._remove(event)
        return Change(_wire(stored), _wire(removed))

    def snapshot(self) -> Change:
        """Every copy that is cached now."""
        return Change(
            stored=_wire([b.value for b in self._blocks.values() for _ in range(b.copies)])
        )

    def clear(self) -> None:
        """Forget everything: the cache is empty, or what we knew of it is worthless."""
        self._blocks.clear()

    def _store(self, event: BlocksStored) -> list[int]:
        parent = self._parent(event)
        if parent is None:
            self.untranslated += len(event.hashes)
            return []
        tokens = array("I", event.token_ids).tobytes()
        step = event.block_size * TOKEN_BYTES
        values = []
        for place, engine_hash in enumerate(event.hashes):
            parent = block_hash(parent, tokens[place * step : (place + 1) * step])
            self._add_copy(engine_hash, parent)
            values.append(parent)
        return values

    def _parent(self, event: BlocksStored) -> int | None:
        if event.parent is None:
            return chain_root(self._model, event.adapter, event.cache_salt)
        known = self._blocks.get(event.parent)
        return None if known is None else known.value

    def _add_copy(self, engine_hash: EngineHash, value: int) -> None:
        known = self._blocks.get(engine_hash)
        if known is None:
            self._blocks[engine_hash] = _Cached(value, 1)
        else:
            known.copies += 1

    def _remove(self, event: BlocksRemoved) -> list[int]:
        return [value for each in event.hashes if (value := self._remove_copy(each)) is not None]

    def _remove_copy(self, engine_hash: EngineHash) -> int | None:
        known = self._blocks.get(engine_hash)
        if known is None:  # it was not translated when it was stored
            return None
        known.copies -= 1
        if known.copies == 0:
            del self._blocks[engine_hash]
        return known.value


class Outbox:
    """Changes that wait to be sent, in one message; a snapshot once that is the shorter."""

    def __init__(self, blocks: CachedBlocks) -> None:
        self._blocks = blocks
        self._sequence = 0
        self._stored = bytearray()
        self._removed = bytearray()
        self._wants_snapshot = True

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to say."""
        return not (self._wants_snapshot or self._stored or self._removed)

    def start_over(self) -> None:
        """The next message is a snapshot: a scheduler that knows nothing listens."""
        self._wants_snapshot = True

    def start_epoch(self) -> None:
        """A new epoch counts from nothing."""
        self._sequence = 0
        self._wants_snapshot = True

    def add(self, change: Change) -> None:
        """Note a change. Copies are counted, so changes add up whatever their order."""
        if self._wants_snapshot:  # which will hold it
            return
        self._stored += change.stored
        self._removed += change.removed
        # A scheduler that reads slowly costs a snapshot, not ever more memory.
        waiting = (len(self._stored) + len(self._removed)) // HASH_BYTES
        self._wants_snapshot = waiting > 1024 + 2 * len(self._blocks)

    def take(self) -> tuple[int, bool, Change]:
        """The next message: its number, whether it is a snapshot, and what it says."""
        is_snapshot = self._wants_snapshot
        change = (
            self._blocks.snapshot()
            if is_snapshot
            else Change(bytes(self._stored), bytes(self._removed))
        )
        sequence = self._sequence
        self._sequence += 1
        self._wants_snapshot = False
        self._stored.clear()
        self._removed.clear()
        return sequence, is_snapshot, change


def _wire(values: Sequence[int]) -> bytes:
    return array("Q", values).tobytes()
