"""Runs the scheduler."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from wsgiref.simple_server import WSGIServer

import grpc
import structlog
import uvloop
from prometheus_client import start_http_server

from headway.scheduler.v1.scheduler_pb2_grpc import add_SchedulerServiceServicer_to_server
from observability.telemetry import Telemetry, start_logs, start_telemetry
from services.scheduler.admin import Admin
from services.scheduler.config import Config
from services.scheduler.desk import Desk
from services.scheduler.joining import Joining
from services.scheduler.metrics import Metrics
from services.scheduler.placement import POLICIES
from services.scheduler.recorder import Recorder, RecordingFile
from services.scheduler.scheduler import Bounds, Scheduler
from services.scheduler.server import SERVICE, SchedulerService
from services.scheduler.shares import read_weights
from services.scheduler.witness import Witness
from services.serving import ListenError, grpc_server, stop_signal
from services.settings import SettingError, from_env


async def main(config: Config) -> None:
    """Serve until told to stop."""
    stopping = asyncio.create_task(stop_signal())  # first: a signal may come at any time
    log = start_logs("scheduler")
    telemetry = start_telemetry("scheduler", os.environ)
    metrics = Metrics(config.policy)
    async with recording(config, metrics, log) as recorder:
        service = make_service(config, metrics, telemetry, log, recorder)
        serve_admin(config.metrics_listen, service)

        def register(server: grpc.aio.Server) -> None:
            add_SchedulerServiceServicer_to_server(service, server)

        async with grpc_server(config.listen, SERVICE, register, config.drain_s) as (health, port):
            await health.set_serving(True)
            log.info("listening", port=port, policy=config.policy)
            await until_stopped(service, stopping, recorder)
            log.info("draining")
            await health.set_serving(False)
            service.close()
    telemetry.close()


@asynccontextmanager
async def recording(
    config: Config, metrics: Metrics, log: structlog.stdlib.BoundLogger
) -> AsyncIterator[Recorder | None]:
    """A recorder, if one is wanted; what it took is on disk when the block is left."""
    if not config.record:
        yield None
        return
    limit_bytes = config.record_limit_mb * 2**20
    try:
        file = RecordingFile(Path(config.record), limit_bytes, config.policy)
    except OSError as error:
        reason = f"cannot write {config.record}: {error.strerror}"
        raise SettingError(f"SCHEDULER_RECORD: {reason}") from error
    recorder = Recorder(file, metrics, log)
    try:
        yield recorder
    finally:
        await recorder.close()


def make_service(
    config: Config,
    metrics: Metrics,
    telemetry: Telemetry,
    log: structlog.stdlib.BoundLogger,
    recorder: Recorder | None = None,
) -> SchedulerService:
    """The service, from its core outwards."""
    policy = POLICIES[config.policy](Random(config.seed))
    bounds = Bounds(config.queue_limit, config.index_limit, config.index_every)
    weights = read_weights(config.weights)
    core = Scheduler(policy, config.worker_ttl_s, bounds, weights)
    witness = None if recorder is None else Witness(core, recorder.record)
    desk = Desk(core, metrics, telemetry, config.lease_ms, witness)
    return SchedulerService(desk, Joining(desk, config.heartbeat_ms, log))


def serve_admin(listen: str, service: SchedulerService) -> WSGIServer | None:
    """Serve metrics, workers and decisions by HTTP on `listen`, unless that is empty."""
    if not listen:
        return None
    host, _, port = listen.rpartition(":")
    try:
        server, _ = start_http_server(int(port), host.strip("[]"))
    except (OSError, ValueError, OverflowError) as error:
        raise ListenError(f"SCHEDULER_METRICS_LISTEN: cannot listen on {listen}") from error
    metrics = server.get_app()
    assert metrics is not None, "start_http_server has set it"
    loop = asyncio.get_running_loop()
    server.set_app(Admin(metrics, loop, service.workers, service.decisions))
    return server


async def until_stopped(
    service: SchedulerService, stopping: asyncio.Task[None], recorder: Recorder | None
) -> None:
    """Return when asked to end; raise what ends the ticker or the recording."""
    ticking = asyncio.create_task(service.tick_forever())
    owners = {ticking} if recorder is None else {ticking, recorder.writing}
    done, _ = await asyncio.wait({*owners, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for owner in done & owners:
        owner.result()
    ticking.cancel()


if __name__ == "__main__":
    try:
        uvloop.run(main(from_env(Config, "SCHEDULER", os.environ)))
    except (SettingError, ListenError) as error:
        print(f"scheduler: {error}", file=sys.stderr)
        sys.exit(2)
