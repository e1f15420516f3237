"""A port that several processes serve is left without losing a client."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.edge import client, listening
from services.edge.listening import serving

ASK = b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n"


def answering(name: bytes) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """An application that says its name."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        length = (b"content-length", b"%d" % len(name))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": name})

    return answer


class Caller:
    """A client that can connect and ask while the loop stands still."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setblocking(False)

    async def ask(self) -> bytes:
        """Ask once; the whole answer."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._socket, ASK)
        return await loop.sock_recv(self._socket, 4096)

    async def hears_the_end(self) -> bool:
        """Whether the server closed, without a reset."""
        return await asyncio.get_running_loop().sock_recv(self._socket, 4096) == b""

    def close(self) -> None:
        """Leave."""
        self._socket.close()


async def test_who_waits_in_the_queue_or_has_not_asked_yet_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "LAST_CALL_S", 60)
    async with serving(answering(b"stays"), "127.0.0.1:0", 1, reuse_port=True) as port:
        leaves = serving(answering(b"leaves"), f"127.0.0.1:{port}", 60, reuse_port=True)
        await leaves.__aenter__()
        # No await: the loop accepts none of these, so they wait in both queues.
        callers = [Caller(port) for _ in range(64)]
        leaving = asyncio.create_task(leaves.__aexit__(None, None, None))
        await asyncio.sleep(listening.HANDSHAKES_S + 0.15)  # by now its socket is closed
        answers = [await caller.ask() for caller in callers]
        assert {answer[-6:] for answer in answers} == {b"leaves", b"\nstays"}
        lasts = [answer for answer in answers if answer.endswith(b"leaves")]
        assert all(b"connection: close" in answer for answer in lasts)
        await leaving
        later = Caller(port)
        assert (await later.ask()).endswith(b"stays")
        for caller in (*callers, later):
            caller.close()


async def test_who_is_connected_and_has_nothing_to_ask_does_not_keep_it() -> None:
    leaves = serving(answering(b"leaves"), "127.0.0.1:0", 60)
    port = await leaves.__aenter__()
    asked, silent = Caller(port), Caller(port)
    assert (await asked.ask()).endswith(b"leaves")
    async with asyncio.timeout(5):
        await leaves.__aexit__(None, None, None)
        assert await asked.hears_the_end()
        assert await silent.hears_the_end()
    asked.close()
    silent.close()
