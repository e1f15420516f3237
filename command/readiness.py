"""Asks a service whether it is ready: gRPC health, or the edge's `/readyz`.

python -m command.readiness SERVICE HOST:PORT METRICS_HOST:PORT

ends with 0 when it is, else with 1: a container's health check.
"""

import asyncio
import sys
from http.client import HTTPException
from urllib.request import urlopen

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from tenacity import AsyncRetrying, retry_if_result, wait_fixed

POLL_S = 0.1
ANSWER_S = 2.0

# Loopback needs no proxy, whatever the environment says.
_OPTIONS = (("grpc.enable_http_proxy", 0),)


async def until_ready(service: str, address: str, metrics_address: str) -> None:
    """Return when the service says that it can take work."""
    ask_again = retry_if_result(lambda ready: not ready)
    ask = AsyncRetrying(retry=ask_again, wait=wait_fixed(POLL_S))
    await ask(is_ready, service, address, metrics_address)


async def is_ready(service: str, address: str, metrics_address: str) -> bool:
    """Whether the service says now that it can take work."""
    if service == "edge":
        # Edges share their address; which of them answers there is chance.
        edges = (metrics_address, address)
        return all([await asyncio.to_thread(_readyz, each) for each in edges])
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        return await _serves(channel)


async def _serves(channel: grpc.aio.Channel) -> bool:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    try:
        answer = await check(HealthCheckRequest(), timeout=ANSWER_S)
    except grpc.aio.AioRpcError:
        return False
    return answer.status == HealthCheckResponse.SERVING


def _readyz(address: str) -> bool:
    try:
        with urlopen(f"http://{address}/readyz", timeout=ANSWER_S):
            return True
    except (OSError, HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(not asyncio.run(is_ready(*sys.argv[1:])))
