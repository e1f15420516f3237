"""vLLM's KV events, read from the wire and over real sockets; no vLLM is needed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from services.worker.engine import BlocksRemoved, BlocksStored, CacheForgotten, KvEvent
from services.worker.vllm_events import Subscription, read_batch

encode = msgspec.msgpack.encode


def stored(**changes: Any) -> dict[str, Any]:
    event = {
        "type": "BlockStored",
        "block_hashes": [b"1"],
        "parent_block_hash": None,
        "token_ids": [1, 2],
        "block_size": 2,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
    }
    return event | changes


def removed(*hashes: bytes) -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": hashes, "medium": "GPU", "group_idx": 0}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(stored(), [BlocksStored([b"1"], None, [1, 2], 2)], id="stored"),
        pytest.param(
            stored(parent_block_hash=b"0", kv_cache_spec_kind="full_attention", group_idx=0),
            [BlocksStored([b"1"], b"0", [1, 2], 2)],
            id="after-a-parent",
        ),
        pytest.param(
            stored(extra_keys=[["pepper"]]),
            [BlocksStored([b"1"], None, [1, 2], 2, cache_salt="pepper")],
            id="salted",
        ),
        pytest.param(
            stored(lora_name="ad", extra_keys=[["ad", "pepper"]]),
            [BlocksStored([b"1"], None, [1, 2], 2, adapter="ad", cache_salt="pepper")],
            id="an-adapter-and-salt",
        ),
        pytest.param(
            stored(lora_name="ad", extra_keys=[["ad", "ad"]]),
            [BlocksStored([b"1"], None, [1, 2], 2, adapter="ad", cache_salt="ad")],
            id="a-salt-that-reads-like-the-adapter",
        ),
        pytest.param(
            stored(lora_name="ad", extra_keys=[["ad"]]),
            [BlocksStored([b"1"], None, [1, 2], 2, adapter="ad")],
            id="an-adapter",
        ),
        pytest.param(stored(extra_keys=[[["image", 0]]]), [], id="images-are-not-tokens"),
        pytest.param(stored(kv_cache_spec_kind="sliding_window"), [], id="no-full-attention"),
        pytest.param(removed(b"1", b"2"), [BlocksRemoved([b"1", b"2"])], id="removed"),
        pytest.param({"type": "AllBlocksCleared"}, [CacheForgotten()], id="cleared"),
    ],
)
def test_events_are_read(event: dict[str, Any], expected: list[KvEvent]) -> None:
    assert read_batch(encode([1.5, [event], 0])) == expected


class Publisher:
    """vLLM's side: publishes, and replays what it still has."""

    def __init__(self, directory: Path) -> None:
        self.endpoints = (f"ipc://{directory}/e", f"ipc://{directory}/r")
        self._context = zmq.Context()
        self._events = self._context.socket(zmq.XPUB)
        self._events.bind(self.endpoints[0])
        self._replay = self._context.socket(zmq.ROUTER)
        self._replay.bind(self.endpoints[1])
        self.kept: dict[int, bytes] = {}

    def wait_for_subscriber(self) -> None:
        self._events.recv()

    def publish(self, number: int, *, lost: bool = False) -> None:
        self.kept[number] = encode([0.0, [removed(str(number).encode())], 0])
        if not lost:
            self._events.send_multipart([b"", number.to_bytes(8, "big"), self.kept[number]])

    def replay(self) -> None:
        client, _, first = self._replay.recv_multipart()
        for number, payload in sorted(self.kept.items()):
            if number >= int.from_bytes(first, "big"):
                self._replay.send_multipart([client, b"", b"", number.to_bytes(8, "big"), payload])
        self._replay.send_multipart([client, b"", b"", b"\xff" * 8, b""])

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    publishing = Publisher(tmp_path)
    yield publishing
    publishing.close()


async def take(subscription: Subscription, count: int) -> list[list[KvEvent]]:
    got = []
    async for batch in subscription.batches():
        got.append(batch)
        if len(got) == count:
            break
    return got


def of(*numbers: int) -> list[list[BlocksRemoved]]:
    return [[BlocksRemoved([str(number).encode()])] for number in numbers]


async def test_what_was_before_the_subscription_is_replayed(publisher: Publisher) -> None:
    publisher.publish(0)
    publisher.publish(1)
    subscription = Subscription(*publisher.endpoints)
    taking = asyncio.create_task(take(subscription, 3))
    await asyncio.to_thread(publisher.wait_for_subscriber)
    await asyncio.to_thread(publisher.replay)
    publisher.publish(2)
    assert await taking == of(0, 1, 2)
    subscription.close()


async def test_a_gap_is_replayed_once(publisher: Publisher) -> None:
    subscription = Subscription(*publisher.endpoints)
    taking = asyncio.create_task(take(subscription, 4))
    await asyncio.to_thread(publisher.wait_for_subscriber)
    await asyncio.to_thread(publisher.replay)
    publisher.publish(0)
    publisher.publish(1, lost=True)
    publisher.publish(2)
    publisher.publish(3)
    await asyncio.to_thread(publisher.replay)
    assert await taking == of(0, 1, 2, 3)
    subscription.close()


async def test_what_is_lost_for_good_is_said(publisher: Publisher) -> None:
    subscription = Subscription(*publisher.endpoints)
    taking = asyncio.create_task(take(subscription, 3))
    await asyncio.to_thread(publisher.wait_for_subscriber)
    await asyncio.to_thread(publisher.replay)
    publisher.publish(0)
    publisher.publish(5)
    await asyncio.to_thread(publisher.replay)
    assert await taking == [*of(0), [CacheForgotten()], *of(5)]
    subscription.close()
