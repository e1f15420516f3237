"""What comes over a connection and is no whole request, or an old one, still gets an answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.edge import client, listening
from tests.edge.conftest import Stage, staged
from tests.edge.scripted import MODEL

CHAT = b'{"model":"%s","messages":[{"role":"user","content":"hi"}]}' % MODEL.encode()
STREAMED = CHAT[:-1] + b',"stream":true}'
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: edge\r\n\r\n"


def post(body: bytes, length: int | None = None, version: bytes = b"1.1") -> bytes:
    head = b"POST /v1/chat/completions HTTP/%b\r\nhost: edge\r\ncontent-length: %d\r\n\r\n"
    return head % (version, len(body) if length is None else length) + body


class Connection:
    """A client by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """The next answer: its status, headers and JSON."""
        async with asyncio.timeout(5):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self._reader.readexactly(int(headers["content-length"]))
        assert headers["x-request-id"]
        return int(first.split()[1]), headers, json.loads(body)

    async def rest(self) -> bytes:
        """All else that comes until the end."""
        async with asyncio.timeout(5):
            return await self._reader.read()


@pytest.fixture
async def connection(stage: Stage) -> AsyncIterator[Connection]:
    async for opened in _connected(stage.port):
        yield opened


async def _connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Connection(reader, writer)
    writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /hea", id="in-the-head"),
        pytest.param(post(CHAT, 500), id="in-the-body"),
        pytest.param(HEALTH[:-2], id="before-the-last-line"),
    ],
)
async def test_what_ends_before_it_is_whole_is_a_400(connection: Connection, sent: bytes) -> None:
    connection.writer.write(sent)
    connection.writer.write_eof()
    status, headers, told = await connection.answer()
    assert (status, told["error"]["code"]) == (400, "invalid_http")
    assert headers["connection"] == "close"
    assert await connection.rest() == b""


async def test_who_asks_nothing_and_ends_hears_nothing(connection: Connection) -> None:
    connection.writer.write_eof()
    assert await connection.rest() == b""


@pytest.mark.parametrize("asked", [1, 2], ids=["one", "two"])
async def test_nonsense_after_a_request_does_not_take_its_answer(
    connection: Connection, asked: int
) -> None:
    connection.writer.write(post(CHAT) * asked + b"nonsense\r\n\r\n")
    for _ in range(asked):
        status, _, told = await connection.answer()
        assert (status, told["object"]) == (200, "chat.completion")
    assert await connection.rest() == b""


async def test_nonsense_does_not_get_into_a_stream(connection: Connection) -> None:
    connection.writer.write(post(STREAMED) + b"nonsense\r\n\r\n")
    answered = await connection.rest()
    assert answered.count(b"HTTP/1.1") == 1
    assert answered.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_a_client_of_http_1_0_gets_a_stream_without_chunks(connection: Connection) -> None:
    connection.writer.write(post(STREAMED, version=b"1.0"))
    head, _, body = (await connection.rest()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"\r\nconnection: close" in head
    events = body.decode().split("\n\n")
    assert events.pop() == ""
    assert events.pop() == "data: [DONE]"
    assert all(json.loads(event.removeprefix("data: "))["id"] for event in events)


async def test_a_client_of_http_1_0_gets_a_body(connection: Connection) -> None:
    connection.writer.write(post(CHAT, version=b"1.0"))
    status, _, told = await connection.answer()
    assert (status, told["object"]) == (200, "chat.completion")
    assert await connection.rest() == b""


async def test_a_body_that_will_be_too_large_is_not_waited_for() -> None:
    async with staged(body_limit_bytes=1000) as stage:
        async for connection in _connected(stage.port):
            connection.writer.write(post(b"{", 10**6))
            status, _, told = await connection.answer()
            assert (status, told["error"]["code"]) == (413, "body_too_large")
            connection.writer.write(b"x" * (10**6 - 1) + HEALTH)
            assert (await connection.answer())[0] == 200
            connection.writer.write(post(b"{", 10**6))
            assert (await connection.answer())[0] == 413
            connection.writer.write_eof()
            assert await connection.rest() == b"", "it was answered"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are short."""
    monkeypatch.setattr(listening, "DATE_S", 0.01)
    monkeypatch.setattr(client, "HEAD_TICKS", 3)
    monkeypatch.setattr(client, "SILENT_TICKS", 5)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("before", [b"", HEALTH], ids=["first", "second"])
async def test_a_head_that_does_not_arrive_is_a_408(before: bytes) -> None:
    async with staged() as stage:
        async for connection in _connected(stage.port):
            if before:
                connection.writer.write(before)
                assert (await connection.answer())[0] == 200
            connection.writer.write(b"GET /he")
            status, _, told = await connection.answer()
            assert (status, told["error"]["code"]) == (408, "request_timeout")
            assert await connection.rest() == b""


@pytest.mark.usefixtures("impatient")
async def test_who_never_asks_is_left_and_who_has_asked_may_rest() -> None:
    async with staged() as stage:
        async for asked in _connected(stage.port):
            asked.writer.write(HEALTH)
            assert (await asked.answer())[0] == 200
            async for silent in _connected(stage.port):
                assert await silent.rest() == b""
            asked.writer.write(HEALTH)
            assert (await asked.answer())[0] == 200
