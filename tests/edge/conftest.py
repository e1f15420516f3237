"""An edge between scripted services, on real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client import generate_latest

from headway.scheduler.v1 import scheduler_pb2 as scheduler
from headway.scheduler.v1 import scheduler_pb2_grpc as scheduler_rpc
from headway.tokenizer.v1 import tokenizer_pb2_grpc as tokenizer_rpc
from headway.worker.v1 import worker_pb2_grpc as worker_rpc
from observability.telemetry import start_logs, start_telemetry
from services.edge.__main__ import hops_of
from services.edge.accounts import Accounts
from services.edge.config import Config
from services.edge.listening import serving
from services.edge.server import Admin, Edge
from services.edge.tenants import Tenants
from services.edge.visits import Visits
from tests.edge.scripted import (
    ADAPTER,
    CONTEXT,
    EMBEDDING_MODEL,
    MODEL,
    ScriptedEmbedder,
    ScriptedScheduler,
    ScriptedTokenizer,
    ScriptedWorker,
    script,
)


@dataclass
class Stage:
    """The scripted services, the edge between them, and a client."""

    tokenizers: list[ScriptedTokenizer]
    scheduler: ScriptedScheduler
    scheduler_server: grpc.aio.Server
    workers: list[ScriptedWorker]
    embedders: list[ScriptedEmbedder]
    edge: Edge
    port: int
    client: httpx.AsyncClient

    async def chat(self, text: str = "hello", **more: Any) -> httpx.Response:
        """Ask for a chat completion."""
        headers = more.pop("headers", {})
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)


@asynccontextmanager
async def staged(
    tenants: Tenants | None = None, embedders: int = 0, **settings: Any
) -> AsyncIterator[Stage]:
    """Put an edge between two tokenizers, a scheduler, two workers and more that embed."""
    async with AsyncExitStack() as stack:
        tokenizers = [script(ScriptedTokenizer) for _ in range(2)]
        workers = [script(ScriptedWorker) for _ in range(2)]
        plan = script(ScriptedScheduler)
        addresses = [
            await _serve(stack, tokenizer_rpc.add_TokenizerServiceServicer_to_server, each)
            for each in tokenizers
        ]
        for number, each in enumerate(workers):
            address = await _serve(stack, worker_rpc.add_WorkerServiceServicer_to_server, each)
            plan.fleet.append(
                scheduler.FleetWorker(
                    worker_id=f"w{number}",
                    address=address[1],
                    kind=scheduler.WORKER_KIND_GENERATE,
                    models=[MODEL],
                    adapters=[ADAPTER],
                    max_model_tokens=CONTEXT,
                )
            )
        embedding = [script(ScriptedEmbedder) for _ in range(embedders)]
        for number, each_embedder in enumerate(embedding):
            _, address_of = await _serve(
                stack, worker_rpc.add_WorkerServiceServicer_to_server, each_embedder
            )
            plan.fleet.append(
                scheduler.FleetWorker(
                    worker_id=f"e{number}",
                    address=address_of,
                    kind=scheduler.WORKER_KIND_EMBED,
                    models=[EMBEDDING_MODEL],
                    max_model_tokens=CONTEXT,
                )
            )
        server, listen = await _serve(
            stack, scheduler_rpc.add_SchedulerServiceServicer_to_server, plan
        )
        config = Config(
            tokenizers=tuple(address for _, address in addresses),
            scheduler=listen,
            pools=(MODEL,),
            **settings,
        )
        log = start_logs("edge")
        hops = await stack.enter_async_context(hops_of(config, log))
        heard = asyncio.Event()
        hops.fleet.changed = heard.set
        await heard.wait()
        accounts = Accounts()
        visits = Visits(start_telemetry("edge", {}), accounts, log)
        edge = Edge(config, hops, tenants or Tenants({}), visits, generate_latest)
        admin = Admin(edge, accounts)
        port = await stack.enter_async_context(serving(admin, "127.0.0.1:0", drain_s=1))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}")
        )
        yield Stage(tokenizers, plan, server, workers, embedding, edge, port, client)


async def _serve(stack: AsyncExitStack, add: Any, servicer: Any) -> tuple[grpc.aio.Server, str]:
    server = grpc.aio.server()
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, None)
    return server, f"127.0.0.1:{port}"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """An edge with its usual settings."""
    async with staged() as built:
        yield built
