"""What the load generator reads, wherever the bytes are cut."""

import asyncio
from collections.abc import Iterable
from itertools import pairwise
from unittest.mock import Mock

import pytest

from bench.overhead.connection import Connection, post
from bench.overhead.figures import Answer

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
CHUNKED_JSON = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TEXT = b'data: {"choices":[{"delta":{"content":" a\\"b"}}]}\n\n'
END = b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"the worker is gone"}}\n\n'


def chunks(*events: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


STREAM = HEAD + chunks(ROLE, TEXT, TEXT, TEXT, END, DONE)


async def read(parts: Iterable[bytes], and_close: bool = False) -> Answer:
    connection = Connection()
    connection.connection_made(Mock(spec=asyncio.Transport))
    asking = asyncio.create_task(connection.ask(post("host", 80, b"{}"), 3))
    await asyncio.sleep(0)
    for part in parts:
        connection.data_received(part)
    if and_close:
        connection.connection_lost(None)
    async with asyncio.timeout(1):
        return await asking


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 50, 10_000])
async def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    cuts = [*range(0, len(STREAM), size), len(STREAM)]
    answer = await read(STREAM[begin:end] for begin, end in pairwise(cuts))
    assert (answer.status, answer.failure, answer.deltas, answer.tokens) == (200, "", 3, 3)
    assert 0 < answer.ttft_s <= answer.e2e_s


async def test_gaps_are_between_reads_with_text() -> None:
    events = [ROLE, TEXT, TEXT, END, DONE]
    parts = [HEAD, *(b"%x\r\n%b\r\n" % (len(each), each) for each in events), b"0\r\n\r\n"]
    assert len((await read(parts)).gaps_s) == 1
    assert not (await read([STREAM])).gaps_s  # they came together: nobody saw a gap


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(chunks(ROLE, TEXT, ERROR, DONE), "the worker is gone", id="error"),
        pytest.param(chunks(ROLE, TEXT), "without its end", id="cut"),
        pytest.param(chunks(ROLE, END, DONE), "without text", id="empty"),
    ],
)
async def test_a_stream_that_is_not_whole_is_a_failure(body: bytes, says: str) -> None:
    assert says in (await read([HEAD, body])).failure


async def test_a_connection_that_ends_early_is_a_failure() -> None:
    assert "closed" in (await read([STREAM[:-30]], and_close=True)).failure


async def test_a_connection_that_ends_later_changes_nothing() -> None:
    connection = Connection()
    connection.connection_made(Mock(spec=asyncio.Transport))
    asking = asyncio.create_task(connection.ask(post("host", 80, b"{}"), 3))
    await asyncio.sleep(0)
    connection.data_received(STREAM)
    answer = await asking
    connection.connection_lost(None)  # a server closes what nobody has used for a while
    assert answer.failure == ""
    assert not connection.is_open


async def test_a_body_says_its_tokens() -> None:
    body = b'{"usage":{"completion_tokens":7}}'
    for whole in (JSON % (200, len(body), body), CHUNKED_JSON + chunks(body[:9], body[9:])):
        answer = await read([whole[:40], whole[40:]])
        assert (answer.failure, answer.tokens, answer.deltas) == ("", 7, 0)
        assert answer.ttft_s == answer.e2e_s


async def test_a_refusal_is_a_failure_that_says_why() -> None:
    body = b'{"error":"full"}'
    answer = await read([JSON % (429, len(body), body)])
    assert answer.status == 429
    assert answer.failure == '429 {"error":"full"}'
