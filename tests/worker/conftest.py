"""A worker to talk to, in process on the simulated engine."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from opentelemetry import trace
from prometheus_client import CollectorRegistry
from tokenizers import Tokenizer

from headway.worker.v1 import worker_pb2_grpc
from observability.telemetry import Telemetry, WallClock
from services.serving import grpc_server
from services.worker.calls import Calls
from services.worker.engine import Engine, EngineFacts
from services.worker.identity import Identity
from services.worker.metrics import Metrics
from services.worker.parsers import NoParsers
from services.worker.requests import Limits
from services.worker.server import WorkerServer
from services.worker.sim_core import SimSettings
from services.worker.sim_engine import SimEngine
from services.worker.sim_words import word_ids
from services.worker.spans import Spans
from services.worker.text import TokenBytes
from services.worker.wire import DeltaWriter
from services.worker.worker import Worker

if TYPE_CHECKING:  # the stubs have it, the generated code does not
    from headway.worker.v1.worker_pb2_grpc import WorkerServiceAsyncStub

NO_TELEMETRY = Telemetry(trace.NoOpTracer(), exporting=False, _provider=None)
ADAPTERS = ("clerk", "poet")
FAST = SimSettings(base_ms=1, prefill_us=1, decode_us=1)


@dataclass(frozen=True)
class Served:
    """A worker that listens."""

    worker: Worker
    engine: Engine
    facts: EngineFacts
    identity: Identity
    registry: CollectorRegistry
    metrics: Metrics
    address: str
    stub: "WorkerServiceAsyncStub"

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value."""
        return self.registry.get_sample_value(name, labels) or 0.0


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture(scope="session")
def tokenizer(demo_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(demo_model / "tokenizer.json"))


def simulated(tokenizer: Tokenizer, settings: SimSettings = FAST) -> SimEngine:
    """A simulated engine with the demo model's words and a context of 1000 tokens."""
    words = word_ids(tokenizer.get_vocab(with_added_tokens=False))
    return SimEngine(settings, words, tokenizer.get_vocab_size(), max_model_tokens=1000)


@asynccontextmanager
async def served(tokenizer: Tokenizer, engine: Engine, kind: str) -> AsyncIterator[Served]:
    """A worker on this engine that listens on a free port."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.watch(engine)
    worker = Worker(engine, tokenizer, NoParsers(), metrics)
    identity = Identity(
        worker_id="w", address="", kind=kind, models=("main", "alias"), adapters=ADAPTERS
    )
    deltas = DeltaWriter(TokenBytes(tokenizer), identity)
    calls = Calls(worker, deltas, metrics, Spans(NO_TELEMETRY, WallClock()))

    def register(server: grpc.aio.Server) -> None:
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServer(calls, identity), server)

    try:
        async with grpc_server("127.0.0.1:0", "worker", register, 0.1) as (_, port):
            identity.facts = await engine.start()
            limits = Limits.of(identity.models, identity.adapters, kind, identity.facts)
            worker.begin(limits, identity.facts.adapter_slots)
            address = f"127.0.0.1:{port}"
            async with grpc.aio.insecure_channel(address) as channel:
                stub: WorkerServiceAsyncStub = worker_pb2_grpc.WorkerServiceStub(channel)
                yield Served(
                    worker, engine, identity.facts, identity, registry, metrics, address, stub
                )
    finally:
        await engine.stop()


@pytest.fixture
def serve(tokenizer: Tokenizer) -> Serve:
    """Make a worker: `async with serve(base_ms=5) as worker`."""

    def make(
        engine: Engine | None = None, kind: str = "generate", **settings: float
    ) -> AbstractAsyncContextManager[Served]:
        chosen = engine or simulated(tokenizer, replace(FAST, **settings))  # type: ignore[arg-type]
        return served(tokenizer, chosen, kind)

    return make
