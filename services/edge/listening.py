"""An HTTP listener: uvicorn on a socket of ours, ended by us."""

import asyncio
import contextlib
import ctypes
import resource
import socket
import struct
from collections.abc import AsyncIterator, Generator
from typing import Any

import uvicorn

from services.edge.client import Protocol
from services.serving import ListenError

BACKLOG = 4096
DATE_S = 1.0  # the precision of a Date header
KEEP_ALIVE_S = 75  # longer than balancers in front keep an idle connection, which is 60 s at most

HANDSHAKES_S = 0.05
"""Handshakes that had begun when a port is left end within this, unless a client is far away."""

SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python's socket module leaves it out
NO_NEWCOMERS = (  # classic BPF on the TCP header: code, jump if true, if false, operand
    (0x30, 0, 0, 13),  # load the flags
    (0x54, 0, 0, 0x12),  # of these SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # else take it
)


class _Server(uvicorn.Server):
    """uvicorn's server, told to exit; uvicorn's own wakes ten times a second to see whether."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._exit = asyncio.Event()

    async def main_loop(self) -> None:
        """Return when told to exit. Each tick writes the Date header anew."""
        while not await self.on_tick(0):
            for connection in tuple(self.server_state.connections):
                connection.tick()  # type: ignore[union-attr]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DATE_S):
                    await self._exit.wait()

    def exit(self) -> None:
        """Accept nothing more, and end when open requests have, or their time is over."""
        self.should_exit = True
        self._exit.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # The process's own handler ends all parts in their order; uvicorn's would race with it.
        yield


def allow_connections() -> int:
    """Let this process have as many files, so connections, as the system permits it; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextlib.asynccontextmanager
async def serving(
    application: Any, listen: str, drain_s: float, reuse_port: bool = False
) -> AsyncIterator[int]:
    """Serve HTTP on `listen` (host:port; empty: nowhere) until the block is left.

    Yields the port. On leaving, open requests get `drain_s` seconds to end.
    Raises ListenError when the address is taken or not this machine's.
    """
    if not listen:
        yield 0
        return
    with _bound(listen, reuse_port) as bound:
        server = _Server(
            uvicorn.Config(
                application,
                http=Protocol,
                ws="none",  # an upgrade is answered as the plain request that it also is
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing here reads the client's address
                timeout_keep_alive=KEEP_ALIVE_S,
                backlog=BACKLOG,
                timeout_graceful_shutdown=max(1, round(drain_s)),
            )
        )
        task = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield bound.getsockname()[1]
        finally:
            if reuse_port:
                await _leave(bound, server)
            server.exit()
            await task


async def _leave(bound: socket.socket, server: uvicorn.Server) -> None:
    """Leave a port that other processes go on to serve, and lose nobody.

    Closing a socket resets the connections that wait in its queue. So it is first made deaf to new
    ones, and what had begun is accepted. Whoever knocks meanwhile hears nothing, knocks again
    after a second, as TCP does, and finds another process.
    """
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in NO_NEWCOMERS)
    buffer = ctypes.create_string_buffer(program)
    attached = struct.pack("HP", len(NO_NEWCOMERS), ctypes.addressof(buffer))
    bound.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
    await asyncio.sleep(HANDSHAKES_S)
    for listener in server.servers:
        listener.close()


def _bound(listen: str, reuse_port: bool) -> socket.socket:
    host, _, port = listen.rpartition(":")
    try:
        address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError) as error:
        raise ListenError(f"cannot listen on {listen}: no host:port of this machine") from error
    bound = socket.socket(address[0], socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind(address[4])
        bound.listen(BACKLOG)  # who connects before uvicorn accepts waits, and is not refused
    except OSError as error:
        bound.close()
        raise ListenError(f"cannot listen on {listen}: {error.strerror}") from error
    return bound
