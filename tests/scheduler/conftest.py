"""A real scheduler on a free port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
import structlog
from prometheus_client import CollectorRegistry

from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from observability.telemetry import Telemetry, start_telemetry
from services.scheduler.__main__ import make_service, recording
from services.scheduler.config import Config
from services.scheduler.metrics import Metrics
from services.scheduler.server import SERVICE, SchedulerService
from services.serving import grpc_server
from tests.scheduler.clients import Running

SILENCE: Any = structlog.wrap_logger(structlog.testing.ReturnLogger())


@asynccontextmanager
async def running(telemetry: Telemetry | None = None, **settings: Any) -> AsyncIterator[Running]:
    """A scheduler with these settings; its time passes."""
    config = Config(listen="127.0.0.1:0", drain_s=0.2, **settings)
    registry = CollectorRegistry()
    metrics = Metrics(config.policy, registry)
    async with recording(config, metrics, SILENCE) as recorder:
        untraced = telemetry or start_telemetry("x", {})
        service = make_service(config, metrics, untraced, SILENCE, recorder)
        async with _serving(config, service) as channel:
            yield Running(service, channel, registry)


@asynccontextmanager
async def _serving(config: Config, service: SchedulerService) -> AsyncIterator[grpc.aio.Channel]:
    register = partial(rpc.add_SchedulerServiceServicer_to_server, service)
    async with (
        grpc_server(config.listen, SERVICE, register, config.drain_s) as (health, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        await health.set_serving(True)
        ticking = asyncio.create_task(service.tick_forever())
        yield channel
        ticking.cancel()
        service.close()


@pytest.fixture
async def fleet() -> AsyncIterator[Running]:
    """A scheduler with the usual settings and nobody in the fleet."""
    async with running() as scheduler:
        yield scheduler
