"""A gRPC server as every service here runs one: health, reflection, graceful drain."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

# A prompt of a million tokens is 4 MB; images and schemas may come with it. The largest is what
# a body of the edge's default limit, 16 MiB, is at worst: a token a byte, and block hashes.
MESSAGE_LIMIT_BYTES = 96 * 2**20

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    # Streams live for days: a dead peer must be noticed without traffic.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted peer is found again within this, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Two servers on one port would share its calls by chance, without an error.
    ("grpc.so_reuseport", 0),
)


class ListenError(OSError):
    """The address cannot be listened on. The message is one line for the operator."""


class Health:
    """What `grpc.health.v1` says of this process: one status for all its services."""

    def __init__(self, service_names: tuple[str, ...]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._names = ("", *service_names)

    async def set_serving(self, serving: bool) -> None:
        """Tell all watchers."""
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in self._names:
            await self.servicer.set(name, status)


@asynccontextmanager
async def grpc_server(
    listen: str,
    service_name: str,
    register: Callable[[grpc.aio.Server], None],
    drain_s: float,
) -> AsyncIterator[tuple[Health, int]]:
    """Serve on `listen` (host:port, port 0 for a free one) until the block is left.

    Yields the health, which starts as NOT_SERVING, and the port. On leaving, health turns
    first, then running calls get `drain_s` seconds to end.
    Raises ListenError when the address is taken or not this machine's.
    """
    server = grpc.aio.server(options=SERVER_OPTIONS)
    status = Health((service_name,))
    register(server)
    health_pb2_grpc.add_HealthServicer_to_server(status.servicer, server)
    names = (service_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    await status.set_serving(False)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {listen}: is the port in use?") from error
    await server.start()
    try:
        yield status, port
    finally:
        await status.servicer.enter_graceful_shutdown()
        await server.stop(drain_s)


async def stop_signal() -> None:
    """Return when the process is asked to end (SIGTERM or SIGINT)."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
