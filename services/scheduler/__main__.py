"""Runs the scheduler."""

import asyncio
import os
import sys
from random import Random

import grpc
import structlog
import uvloop
from prometheus_client import start_http_server

from headway.scheduler.v1.scheduler_pb2_grpc import add_SchedulerServiceServicer_to_server
from observability.telemetry import Telemetry, start_logs, start_telemetry
from services.scheduler.config import Config
from services.scheduler.desk import Desk
from services.scheduler.joining import Joining
from services.scheduler.metrics import Metrics
from services.scheduler.placement import POLICIES
from services.scheduler.scheduler import Bounds, Scheduler
from services.scheduler.server import SERVICE, SchedulerService
from services.scheduler.shares import read_weights
from services.serving import ListenError, grpc_server, stop_signal
from services.settings import SettingError, from_env


async def main(config: Config) -> None:
    """Serve until told to stop."""
    stopping = asyncio.create_task(stop_signal())  # first: a signal may come at any time
    log = start_logs("scheduler")
    telemetry = start_telemetry("scheduler", os.environ)
    service = make_service(config, Metrics(config.policy), telemetry, log)
    serve_metrics(config.metrics_listen)

    def register(server: grpc.aio.Server) -> None:
        add_SchedulerServiceServicer_to_server(service, server)

    async with grpc_server(config.listen, SERVICE, register, config.drain_s) as (health, port):
        await health.set_serving(True)
        log.info("listening", port=port, policy=config.policy)
        await until_stopped(service, stopping)
        log.info("draining")
        await health.set_serving(False)
        service.close()
    telemetry.close()


def make_service(
    config: Config, metrics: Metrics, telemetry: Telemetry, log: structlog.stdlib.BoundLogger
) -> SchedulerService:
    """The service, from its core outwards."""
    policy = POLICIES[config.policy](Random(config.seed))
    bounds = Bounds(config.queue_limit, config.index_limit)
    weights = read_weights(config.weights)
    core = Scheduler(policy, config.worker_ttl_s, bounds, weights)
    desk = Desk(core, metrics, telemetry, config.lease_ms)
    return SchedulerService(desk, Joining(desk, config.heartbeat_ms, log))


def serve_metrics(listen: str) -> None:
    """Serve Prometheus metrics on `listen`, unless that is empty."""
    if not listen:
        return
    host, _, port = listen.rpartition(":")
    try:
        start_http_server(int(port), host.strip("[]"))
    except (OSError, ValueError, OverflowError) as error:
        raise ListenError(f"SCHEDULER_METRICS_LISTEN: cannot listen on {listen}") from error


async def until_stopped(service: SchedulerService, stopping: asyncio.Task[None]) -> None:
    """Return when asked to end; raise what ends the ticker."""
    ticking = asyncio.create_task(service.tick_forever())
    done, _ = await asyncio.wait({ticking, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if ticking in done:
        ticking.result()
    ticking.cancel()


if __name__ == "__main__":
    try:
        uvloop.run(main(from_env(Config, "SCHEDULER", os.environ)))
    except (SettingError, ListenError) as error:
        print(f"scheduler: {error}", file=sys.stderr)
        sys.exit(2)
