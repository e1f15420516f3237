"""Starts a worker: `python -m services.worker`, set by the variables `WORKER_…`."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import grpc
import prometheus_client
import structlog
import uvloop

from headway.worker.v1 import worker_pb2, worker_pb2_grpc
from observability.telemetry import Telemetry, WallClock, start_logs, start_telemetry
from services.serving import Health, ListenError, grpc_server, stop_signal
from services.settings import SettingError, from_env
from services.worker.calls import Calls
from services.worker.chosen_parsers import load_parsers
from services.worker.config import Config
from services.worker.engine import Engine, EngineBroken
from services.worker.identity import Identity
from services.worker.join import Joining
from services.worker.metrics import Metrics
from services.worker.model import load_engine, load_tokenizer
from services.worker.requests import Failure, FailureKind, Limits
from services.worker.server import WorkerServer
from services.worker.spans import Spans
from services.worker.text import TokenBytes
from services.worker.wire import DeltaWriter
from services.worker.worker import Worker

SERVICE = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name
LAST_FRAMES_S = 0.3  # for what was said last to leave

log = structlog.get_logger(service="worker")
T = TypeVar("T")


class Stopped(Exception):
    """The process was asked to end before it was up."""


class EngineDied(Exception):
    """The engine died. The message is one line."""


async def main(config: Config, telemetry: Telemetry) -> None:
    """Serve until asked to stop. Raises EngineDied when the engine dies before that."""
    stopping = asyncio.create_task(stop_signal())
    tokenizer = load_tokenizer(config.model)
    log.info("loading the engine", engine=config.engine, model=config.model_names[0])
    chosen = await _unless(stopping, asyncio.to_thread(load_parsers, config))
    loading = asyncio.to_thread(load_engine, config, tokenizer, chosen.reasoning)
    engine = await _unless(stopping, loading)
    metrics = Metrics(prometheus_client.REGISTRY)
    metrics.watch(engine)
    worker = Worker(engine, tokenizer, chosen.parsers, metrics)
    identity = Identity(
        worker_id=config.id,
        address=config.address,
        kind=config.kind,
        models=config.model_names,
        adapters=tuple(config.adapter_paths),
    )
    deltas = DeltaWriter(TokenBytes(tokenizer), identity)
    calls = Calls(worker, deltas, metrics, Spans(telemetry, WallClock()))

    def register(server: grpc.aio.Server) -> None:
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServer(calls, identity), server)

    try:
        async with grpc_server(config.listen, SERVICE, register, LAST_FRAMES_S) as (health, port):
            identity.address = config.address or f"{config.listen.rpartition(':')[0]}:{port}"
            identity.facts = await _unless(stopping, engine.start())
            worker.begin(
                Limits.of(identity.models, identity.adapters, identity.kind, identity.facts),
                identity.facts.adapter_slots,
            )
            log.info("the engine is up", engine=identity.facts.engine, address=identity.address)
            joining = Joining(identity, identity.facts, engine, worker, metrics)
            await _serve(config, worker, engine, joining, health, stopping)
    finally:
        await engine.stop()


async def _serve(
    config: Config,
    worker: Worker,
    engine: Engine,
    joining: Joining,
    health: Health,
    stopping: "asyncio.Task[None]",
) -> None:
    async def welcomed() -> None:
        await health.set_serving(not worker.is_draining)

    async def drained_by_scheduler() -> None:
        await worker.drain_asked.wait()
        await health.set_serving(False)
        await asyncio.Event().wait()

    died = asyncio.create_task(engine.died())
    others = {
        asyncio.create_task(joining.follow_cache()),
        asyncio.create_task(joining.stay_joined(config.scheduler, welcomed)),
        asyncio.create_task(drained_by_scheduler()),
    }
    try:
        await asyncio.wait({stopping, died, *others}, return_when=asyncio.FIRST_COMPLETED)
        await health.set_serving(False)
        if died.done():
            await _last_words(worker)
            raise EngineDied(died.result())
        for ended in others:
            if ended.done():
                ended.result()  # none of them returns: it raises what ended it
        await _drain(worker, config.drain_s)
    finally:
        for task in {died, *others}:
            task.cancel()
        await asyncio.wait({died, *others})


async def _drain(worker: Worker, drain_s: float) -> None:
    """Let what runs end; what does not end in time moves to another worker."""
    worker.drain()
    try:
        await asyncio.wait_for(worker.idle(), drain_s)
    except TimeoutError:
        message = "the worker is shutting down"
        await worker.fail_all(Failure(FailureKind.UNAVAILABLE, message))
        await _last_words(worker)


async def _last_words(worker: Worker) -> None:
    """Let every request tell its end."""
    worker.drain()
    with suppress(TimeoutError):  # a pipe that does not drain
        await asyncio.wait_for(worker.idle(), LAST_FRAMES_S)


async def _unless(stopping: "asyncio.Task[None]", work: Coroutine[Any, Any, T]) -> T:
    """The work's result. Raises Stopped when the process is asked to end before."""
    task = asyncio.create_task(work)
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        raise Stopped
    return task.result()


def run() -> int:
    """The exit code: 0 when asked to stop, 1 when the engine died, 2 for wrong settings."""
    start_logs("worker")
    try:
        config = from_env(Config, "WORKER", os.environ)
        _pin(config.cpu_core)
        _serve_metrics(config.metrics_listen)
        telemetry = start_telemetry("worker", os.environ)
        try:
            uvloop.run(main(config, telemetry))
        finally:
            telemetry.close()
    except (SettingError, ListenError, EngineBroken) as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    except EngineDied as error:
        print(f"worker: {error}", file=sys.stderr)
        return 1
    except Stopped:
        # The thread that imports or starts vLLM cannot be stopped, and its engine process is
        # tethered: leave at once.
        os._exit(0)
    return 0


def _pin(core: str) -> None:
    """Run on this core alone; the engine's process inherits it."""
    if not core:
        return
    try:
        os.sched_setaffinity(0, {int(core)})
    except OSError as error:
        raise SettingError(f"WORKER_CPU_CORE: this machine has no core {core}") from error


def _serve_metrics(listen: str) -> None:
    if not listen:
        return
    host, _, port = listen.rpartition(":")
    try:
        prometheus_client.start_http_server(int(port), host)
    except OSError as error:
        raise SettingError(f"WORKER_METRICS_LISTEN: cannot listen on {listen}") from error


if __name__ == "__main__":
    sys.exit(run())
