"""vLLM's KV events: their form on the wire, and a subscription that loses none.

The forms are declared here, so that reading an event needs no vLLM; vLLM 0.29 to 0.33 send them.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from services.worker.engine import BlocksRemoved, BlocksStored, CacheForgotten, EngineHash, KvEvent

_END = (-1).to_bytes(8, "big", signed=True)  # closes a replay
_HIGH_WATER_MARK = 100_000
_REPLAY_TIMEOUT_MS = 5_000


class BlockStored(msgspec.Struct, tag=True):
    """vLLM stored full blocks."""

    block_hashes: list[EngineHash]
    token_ids: list[int]
    block_size: int
    parent_block_hash: EngineHash | None = None
    lora_name: str | None = None
    extra_keys: list[list[Any] | None] | None = None
    kv_cache_spec_kind: str | None = None


class BlockRemoved(msgspec.Struct, tag=True):
    """vLLM evicted blocks."""

    block_hashes: list[EngineHash]


class AllBlocksCleared(msgspec.Struct, tag=True):
    """vLLM emptied its cache."""


class Batch(msgspec.Struct, array_like=True):
    """The events of one engine step."""

    ts: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]


_decoder = msgspec.msgpack.Decoder(Batch)


def read_batch(payload: bytes) -> list[KvEvent]:
    """The events of a batch, in order, as the port names them."""
    events = (_read(event) for event in _decoder.decode(payload).events)
    return [event for event in events if event is not None]


def _read(event: BlockStored | BlockRemoved | AllBlocksCleared) -> KvEvent | None:
    match event:
        case AllBlocksCleared():
            return CacheForgotten()
        case BlockRemoved():
            return BlocksRemoved(event.block_hashes)
        case BlockStored():
            return _read_stored(event)


def _read_stored(event: BlockStored) -> BlocksStored | None:
    # Only full attention caches prefixes; blocks with images have more than tokens in them.
    if event.kv_cache_spec_kind not in (None, "full_attention"):
        return None
    keys = [key for each in event.extra_keys or () for key in each or ()]
    if any(not isinstance(key, str) for key in keys):
        return None
    salts = list(_first(event.extra_keys))
    if event.lora_name in salts:
        salts.remove(event.lora_name)  # once: a salt may be the same text
    return BlocksStored(
        hashes=event.block_hashes,
        parent=event.parent_block_hash,
        token_ids=event.token_ids,
        block_size=event.block_size,
        adapter=event.lora_name or "",
        cache_salt=salts[0] if salts else "",
    )


def _first(extra_keys: list[list[Any] | None] | None) -> Sequence[str]:
    return (extra_keys[0] or ()) if extra_keys else ()


class Subscription:
    """Every batch since the engine's start, in order; gaps are filled from its replay buffer."""

    def __init__(self, events: str, replay: str) -> None:
        self._replay = replay
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set_hwm(_HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(events)
        self._next = 0

    def close(self) -> None:
        """Give the sockets back."""
        self._context.destroy(linger=0)

    async def batches(self) -> AsyncIterator[list[KvEvent]]:
        """The batches. One of CacheForgotten alone stands for events that are lost for good."""
        async for batch in self._missed(None):  # a subscriber that joins late misses the first
            yield batch
        while True:
            _, number, payload = await self._socket.recv_multipart()
            sequence = int.from_bytes(number, "big")
            if sequence < self._next:
                continue
            async for batch in self._missed(sequence):
                yield batch
            self._next = sequence + 1
            yield read_batch(payload)

    async def _missed(self, until: int | None) -> AsyncIterator[list[KvEvent]]:
        """The batches from the next expected one up to `until`, or to the newest."""
        if self._next == until:
            return
        async for sequence, payload in self._replayed():
            if until is not None and sequence >= until:
                continue  # it comes by subscription
            if sequence > self._next:
                yield [CacheForgotten()]
            self._next = sequence + 1
            yield read_batch(payload)
        if until is not None and self._next < until:
            yield [CacheForgotten()]

    async def _replayed(self) -> AsyncIterator[tuple[int, bytes]]:
        socket = self._context.socket(zmq.DEALER)
        socket.set_hwm(_HIGH_WATER_MARK)
        try:
            socket.connect(self._replay)
            await socket.send_multipart([b"", self._next.to_bytes(8, "big")])
            while await socket.poll(_REPLAY_TIMEOUT_MS):
                _, _, number, payload = await socket.recv_multipart()
                if number == _END:
                    return
                yield int.from_bytes(number, "big"), payload
        finally:
            socket.close(linger=0)
