"""An HTTP listener: uvicorn on a socket of ours, ended by us."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from typing import Any

import uvicorn

from services.edge.client import Protocol
from services.serving import ListenError

BACKLOG = 4096
DATE_S = 1.0  # the precision of a Date header
KEEP_ALIVE_S = 75  # longer than balancers in front keep an idle connection, which is 60 s at most
HEADERS_LIMIT_BYTES = 64 * 2**10


class _Server(uvicorn.Server):
    """uvicorn's server, told to exit; uvicorn's own wakes ten times a second to see whether."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._exit = asyncio.Event()

    async def main_loop(self) -> None:
        """Return when told to exit. Each tick writes the Date header anew."""
        while not await self.on_tick(0):
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
                h11_max_incomplete_event_size=HEADERS_LIMIT_BYTES,
                timeout_graceful_shutdown=max(1, round(drain_s)),
            )
        )
        task = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield bound.getsockname()[1]
        finally:
            server.exit()
            await task


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
