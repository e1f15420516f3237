"""A simulated engine that speaks smg's gRPC to vLLM, so that smg's own pipeline is measured.

`python -m bench.overhead.smg_engine PORT MODEL_DIRECTORY base_ms=20,…`, in the peers' environment.
Beside what has to be, it tells of its cache: of the blocks of prompts, which routing reads.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import uvloop
from smg_grpc_proto.generated import (  # type: ignore[import-not-found]
    common_pb2,
    vllm_engine_pb2,
    vllm_engine_pb2_grpc,
)
from tokenizers import Tokenizer

from bench.overhead.engine import MODEL_TOKENS, Engine, Numbers
from bench.overhead.workload import MODEL, VOCABULARY
from services.worker.sim_core import Removed, SimSettings, Stored, read_settings

_POSITIVE = (1 << 63) - 1
_MESSAGE_BYTES = 1 << 26


class Events:
    """What the cache tells, to each that subscribed."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._queues: list[asyncio.Queue[Any]] = []
        self._sequence = 0

    async def subscribed(self) -> AsyncIterator[Any]:
        """The batches from now on."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._queues.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.remove(queue)

    def tell(self, changes: Iterable[Stored | Removed]) -> None:
        """Send what changed in a step."""
        events = [event for change in changes if (event := self._event(change)) is not None]
        if not events:
            return
        batch = common_pb2.KvEventBatch(
            sequence_number=self._sequence, timestamp=time.time(), events=events
        )
        for queue in self._queues:
            queue.put_nowait(batch)

    def _event(self, change: Stored | Removed) -> Any:
        self._sequence += 1
        if isinstance(change, Removed):
            gone = common_pb2.KvBlocksRemoved(block_hashes=[h & _POSITIVE for h in change.hashes])
            return common_pb2.KvCacheEvent(event_id=self._sequence, removed=gone)
        tokens = change.run.tokens
        assert isinstance(tokens, Numbers)
        last = min(change.last, change.run.prompt_tokens // self._block_size)
        if change.first >= last:
            return None
        hashes = [each & _POSITIVE for each in tokens.block_hashes(last)]
        blocks = [
            common_pb2.KvBlock(
                block_hash=hashes[at], token_ids=tokens.block(at), block_size=self._block_size
            )
            for at in range(change.first, last)
        ]
        stored = common_pb2.KvBlocksStored(blocks=blocks)
        if change.first:
            stored.parent_block_hash = hashes[change.first - 1]
        return common_pb2.KvCacheEvent(event_id=self._sequence, stored=stored)


class Server(vllm_engine_pb2_grpc.VllmEngineServicer):  # type: ignore[misc]
    """The RPCs that smg calls."""

    def __init__(self, engine: Engine, settings: SimSettings, model: str) -> None:
        self._engine = engine
        self._settings = settings
        self._model = model
        self._events = Events(settings.block_size)
        engine.on_changes = self._events.tell
        tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
        self._ids = tokenizer.encode(" ".join(["", *VOCABULARY])).ids

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """One chunk a token, then the whole."""
        queue: asyncio.Queue[tuple[int, bool]] = asyncio.Queue()
        max_tokens = request.sampling_params.max_tokens or 16

        def emit(number: int, is_last: bool) -> None:
            queue.put_nowait((number, is_last))

        run = self._engine.submit(request.tokenized.input_ids, max_tokens, emit)
        made: list[int] = []
        is_last = False
        try:
            while not is_last:
                number, is_last = await queue.get()
                made.append(self._ids[number % len(self._ids)])
                if request.stream:
                    chunk = vllm_engine_pb2.GenerateStreamChunk(
                        token_ids=made[-1:],
                        prompt_tokens=run.prompt_tokens,
                        completion_tokens=number,
                        cached_tokens=run.cached_tokens,
                    )
                    yield vllm_engine_pb2.GenerateResponse(chunk=chunk)
            complete = vllm_engine_pb2.GenerateComplete(
                output_ids=made,
                finish_reason="length",
                prompt_tokens=run.prompt_tokens,
                completion_tokens=len(made),
                cached_tokens=run.cached_tokens,
            )
            yield vllm_engine_pb2.GenerateResponse(complete=complete)
        finally:
            self._engine.abort(run)

    async def HealthCheck(self, request: Any, context: Any) -> Any:
        """Well."""
        return vllm_engine_pb2.HealthCheckResponse(healthy=True)

    async def Abort(self, request: Any, context: Any) -> Any:
        """A call that ends has ended its run."""
        return vllm_engine_pb2.AbortResponse()

    async def GetModelInfo(self, request: Any, context: Any) -> Any:
        """The model whose tokenizer smg loads."""
        return vllm_engine_pb2.GetModelInfoResponse(
            model_path=self._model,
            is_generation=True,
            max_context_length=MODEL_TOKENS,
            vocab_size=49152,
            served_model_name=MODEL,
            tokenizer_path=self._model,
            model_type="llama",
            architectures=["LlamaForCausalLM"],
            eos_token_ids=[2],
            pad_token_id=2,
            bos_token_id=1,
            max_req_input_len=MODEL_TOKENS - 192,
            default_sampling_params_json="{}",
        )

    async def GetServerInfo(self, request: Any, context: Any) -> Any:
        """The sizes that smg routes by."""
        return vllm_engine_pb2.GetServerInfoResponse(
            server_type="vllm-grpc",
            data_parallel_size=1,
            block_size=self._settings.block_size,
            max_num_seqs=self._settings.max_running,
        )

    async def GetLoads(self, request: Any, context: Any) -> Any:
        """How the engine fares."""
        running, waiting = self._engine.running, self._engine.waiting
        load = common_pb2.SchedulerLoad(
            num_running_reqs=running,
            num_waiting_reqs=waiting,
            num_total_reqs=running + waiting,
            max_total_num_tokens=self._settings.capacity_blocks * self._settings.block_size,
            max_running_requests=self._settings.max_running,
            gen_throughput=2000,
        )
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return vllm_engine_pb2.GetLoadsResponse(
            timestamp=stamp, version="sim", dp_rank_count=1, loads=[load]
        )

    async def SubscribeKvEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """What changes in the cache."""
        async for batch in self._events.subscribed():
            yield batch


async def main(port: int, model: str, settings: SimSettings) -> None:
    """Serve until ended."""
    engine = Engine(settings)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MESSAGE_BYTES)])
    vllm_engine_pb2_grpc.add_VllmEngineServicer_to_server(Server(engine, settings, model), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await engine.run()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], read_settings(sys.argv[3])))
