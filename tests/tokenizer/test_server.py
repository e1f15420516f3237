"""The service, asked over real gRPC."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from struct import pack
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

from headway.tokenizer.v1 import tokenizer_pb2 as pb
from headway.tokenizer.v1 import tokenizer_pb2_grpc as rpc
from observability.telemetry import Telemetry
from services.blocks import block_hashes, chain_root, read_hashes
from services.serving import grpc_server
from services.tokenizer.batch import Batch, Encodings
from services.tokenizer.metrics import Metrics
from services.tokenizer.models import Models
from services.tokenizer.server import SERVICE, TokenizerServer
from services.tokenizer.threads import Threads

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True, slots=True)
class Running:
    """A service that runs in this process."""

    channel: grpc.aio.Channel
    server: TokenizerServer
    registry: CollectorRegistry
    spans: InMemorySpanExporter
    threads: Threads

    @property
    def stub(self) -> "rpc.TokenizerServiceAsyncStub":
        return rpc.TokenizerServiceStub(self.channel)


@pytest.fixture
async def running(models: Models) -> AsyncIterator[Running]:
    exporter, provider, registry = InMemorySpanExporter(), TracerProvider(), CollectorRegistry()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(provider.get_tracer("test"), exporting=True, _provider=provider)
    metrics = Metrics(registry)
    metrics.show(models)
    with Threads(2) as threads:
        server = TokenizerServer(Encodings(models, metrics, telemetry), threads)

        def register(to: grpc.aio.Server) -> None:
            rpc.add_TokenizerServiceServicer_to_server(server, to)

        async with grpc_server("127.0.0.1:0", SERVICE, register, drain_s=2) as (health, port):
            await health.set_serving(True)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Running(channel, server, registry, exporter, threads)
    provider.shutdown()


def chat(content: str = "Hello", traceparent: str = "", model: str = "smollm2") -> pb.EncodeRequest:
    messages = [pb.Message(role="user", content=content)]
    return pb.EncodeRequest(model=model, chat=pb.Chat(messages=messages), traceparent=traceparent)


def text(content: str, model: str = "smollm2") -> pb.EncodeRequest:
    return pb.EncodeRequest(model=model, text=content)


async def test_a_prompt_becomes_ids_and_hashes(running: Running) -> None:
    answer = await running.stub.Encode(chat("Hello " * 40))
    assert answer.block_size == 16
    tokens = pack(f"<{len(answer.token_ids)}I", *answer.token_ids)
    expected = block_hashes(tokens, 16, chain_root("smollm2"))
    assert list(answer.block_hashes) == list(read_hashes(expected))
    assert answer.timings.render_us > 0
    assert answer.timings.tokenize_us > 0


async def test_text_goes_there_and_back(running: Running) -> None:
    there = await running.stub.Encode(text("Grüße, \U0001f469!"))
    back = await running.stub.Decode(pb.DecodeRequest(model="smollm2", token_ids=there.token_ids))
    assert back.text == "Grüße, \U0001f469!"


async def test_special_tokens_are_decoded_when_kept(running: Running) -> None:
    request = pb.DecodeRequest(model="smollm2", token_ids=[1], keep_special_tokens=True)
    assert (await running.stub.Decode(request)).text == "<|im_start|>"


async def test_the_models_are_listed(running: Running) -> None:
    listed = await running.stub.ListModels(pb.ListModelsRequest())
    minilm, smollm2 = listed.models
    assert minilm == pb.Model(
        name="minilm", vocabulary_size=30522, block_size=16, encoder=pb.ENCODER_TOKENIZERS
    )
    assert smollm2 == pb.Model(
        name="smollm2",
        vocabulary_size=49152,
        block_size=16,
        has_chat_template=True,
        encoder=pb.ENCODER_FASTOKENS,
    )


NO_TEMPLATE = "the model has no chat template"


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        pytest.param(
            text("x", model="gpt"),
            grpc.StatusCode.NOT_FOUND,
            "known are SmolLM2-135M-Instruct, minilm, smollm2",
            id="unknown-model",
        ),
        pytest.param(
            chat(model="minilm"), grpc.StatusCode.INVALID_ARGUMENT, NO_TEMPLATE, id="no-template"
        ),
        pytest.param(text(""), grpc.StatusCode.INVALID_ARGUMENT, "no tokens", id="empty"),
        pytest.param(
            pb.EncodeRequest(model="smollm2"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "no tokens",
            id="no-input",
        ),
        pytest.param(
            pb.EncodeRequest(model="smollm2", token_ids=pb.TokenIds(ids=[4294967295])),
            grpc.StatusCode.INVALID_ARGUMENT,
            "token id 4294967295 is not in the vocabulary: ids end at 49151",
            id="id-outside",
        ),
    ],
)
async def test_encode_refuses(
    running: Running, request_: pb.EncodeRequest, code: grpc.StatusCode, says: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await running.stub.Encode(request_)
    assert refused.value.code() == code
    assert says in (refused.value.details() or "")
    assert (await running.stub.Encode(text("unharmed"))).token_ids


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(pb.DecodeRequest(model="gpt"), grpc.StatusCode.NOT_FOUND, id="unknown-model"),
        pytest.param(
            pb.DecodeRequest(model="smollm2", token_ids=[49152]),
            grpc.StatusCode.INVALID_ARGUMENT,
            id="id-outside",
        ),
    ],
)
async def test_decode_refuses(
    running: Running, request_: pb.DecodeRequest, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await running.stub.Decode(request_)
    assert refused.value.code() == code


async def test_a_batch_has_one_result_an_item_in_order(running: Running) -> None:
    stream = running.stub.EncodeBatches()
    items = [chat(), text(""), text("one"), text("x", model="gpt"), text("two", model="minilm")]
    await stream.write(pb.EncodeBatchesRequest(batch=7, items=items))
    answer = await stream.read()
    assert isinstance(answer, pb.EncodeBatchesResponse)
    assert answer.batch == 7
    assert [result.WhichOneof("outcome") for result in answer.results] == [
        "encoded",
        "refused",
        "encoded",
        "refused",
        "encoded",
    ]
    assert answer.results[1].refused.reason == pb.REFUSAL_REASON_EMPTY
    assert answer.results[3].refused.reason == pb.REFUSAL_REASON_UNKNOWN_MODEL
    plain = await running.stub.Encode(chat())
    assert answer.results[0].encoded.token_ids == pack(
        f"<{len(plain.token_ids)}I", *plain.token_ids
    )
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() == grpc.StatusCode.OK


async def test_many_batches_are_all_answered(running: Running) -> None:
    stream = running.stub.EncodeBatches()
    for batch in range(100):
        await stream.write(pb.EncodeBatchesRequest(batch=batch, items=[chat(f"number {batch}")]))
    await stream.done_writing()
    answered = [answer.batch async for answer in stream]
    assert sorted(answered) == list(range(100))


async def test_a_long_prompt_does_not_hold_up_a_short_one(running: Running) -> None:
    stream = running.stub.EncodeBatches()
    long = text("Headway is the gap. " * 60_000, model="minilm")
    await stream.write(pb.EncodeBatchesRequest(batch=1, items=[long]))
    await stream.write(pb.EncodeBatchesRequest(batch=2, items=[text("short")]))
    answers = [await stream.read() for _ in range(2)]
    batches = [answer.batch for answer in answers if isinstance(answer, pb.EncodeBatchesResponse)]
    assert batches == [2, 1]
    stream.cancel()


async def test_the_timings_fit_into_the_round_trip(running: Running) -> None:
    stream = running.stub.EncodeBatches()
    started = time.monotonic()
    await stream.write(pb.EncodeBatchesRequest(batch=1, items=[chat("word " * 500)] * 16))
    answer = await stream.read()
    took_us = (time.monotonic() - started) * 1e6
    assert isinstance(answer, pb.EncodeBatchesResponse)
    for result in answer.results:
        timings = result.encoded.timings
        assert timings.queue_us + timings.render_us + timings.tokenize_us <= took_us
    stream.cancel()


async def test_a_caller_that_leaves_does_no_harm(running: Running) -> None:
    for _ in range(5):
        stream = running.stub.EncodeBatches()
        await stream.write(pb.EncodeBatchesRequest(batch=1, items=[chat("word " * 2000)] * 8))
        stream.cancel()
    assert (await running.stub.Encode(text("unharmed"))).token_ids


async def test_draining_answers_what_was_read_and_ends_the_stream(running: Running) -> None:
    stream = running.stub.EncodeBatches()
    await stream.write(pb.EncodeBatchesRequest(batch=1, items=[chat()]))
    assert isinstance(await stream.read(), pb.EncodeBatchesResponse)
    running.server.drain()
    assert await asyncio.wait_for(stream.read(), 5) is grpc.aio.EOF
    assert await stream.code() == grpc.StatusCode.OK


async def test_only_brief_batches_are_encoded_by_the_event_loops_own_thread(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoded_by = Encodings.encode, []

    def recording(self: Encodings, messages: Any, received_ns: int) -> Batch:
        encoded_by.append(threading.current_thread())
        return encode(self, messages, received_ns)

    monkeypatch.setattr(Encodings, "encode", recording)
    for content in ("Hello", "Hello " * 2000):
        await running.stub.Encode(chat(content))
    brief, long = encoded_by
    assert brief is threading.current_thread()
    assert long is not brief


async def test_health_and_reflection(running: Running) -> None:
    # Neither has types for asyncio.
    health: Any = health_pb2_grpc.HealthStub(running.channel)
    checked = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert checked.status == health_pb2.HealthCheckResponse.SERVING
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(running.channel)  # type: ignore[arg-type]
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = [answer async for answer in reflection.ServerReflectionInfo(iter([asked]))]
    assert SERVICE in {service.name for service in answer.list_services_response.service}


async def test_a_sampled_prompt_has_its_spans(running: Running, models: Models) -> None:
    stream = running.stub.EncodeBatches()
    items = [chat(traceparent=TRACEPARENT), chat()]
    await stream.write(pb.EncodeBatchesRequest(batch=1, items=items))
    answer = await stream.read()
    assert isinstance(answer, pb.EncodeBatchesResponse)
    running.server.drain()
    assert await stream.read() is grpc.aio.EOF
    await asyncio.to_thread(running.threads.close)  # spans are recorded after the answer
    hop, queue, render, tokenize = running.spans.get_finished_spans()
    assert (hop.name, hop.kind) == ("tokenizer.encode", SpanKind.SERVER)
    assert hop.parent is not None
    assert f"{hop.parent.span_id:016x}" == "b7ad6b7169203331"
    assert f"{hop.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert hop.attributes == {
        "gen_ai.request.model": "smollm2",
        "gen_ai.usage.input_tokens": len(answer.results[0].encoded.token_ids) // 4,
        "headway.batch_prompts": 2,
    }
    for child, name in ((queue, "queue"), (render, "render"), (tokenize, "tokenize")):
        assert child.name == f"tokenizer.{name}"
        assert child.parent is not None
        assert child.parent.span_id == hop.context.span_id
        assert hop.start_time is not None
        assert child.start_time is not None
        assert hop.start_time <= child.start_time


async def test_what_is_counted(running: Running) -> None:
    answer = await running.stub.Encode(text("one two three"))
    with pytest.raises(grpc.aio.AioRpcError):
        await running.stub.Encode(text(""))
    value = running.registry.get_sample_value
    assert value("headway_tokenizer_tokens_total", {"model": "smollm2"}) == len(answer.token_ids)
    assert value("headway_tokenizer_refused_total", {"reason": "empty"}) == 1
    assert value("headway_tokenizer_batch_prompts_count") == 2
    assert value("headway_tokenizer_encode_seconds_count") == 1
    encoder = {"model": "smollm2", "encoder": "fastokens"}
    assert value("headway_tokenizer_encoder_info", encoder) == 1
    assert value("headway_tokenizer_segment_cache_bytes", {"model": "smollm2"}) is not None


async def test_decode_lists_what_the_vocabulary_calls_the_tokens(running: Running) -> None:
    there = await running.stub.Encode(pb.EncodeRequest(model="smollm2", text="Hello world"))
    request = pb.DecodeRequest(model="smollm2", token_ids=there.token_ids, list_tokens=True)
    back = await running.stub.Decode(request)
    assert back.text == "Hello world"
    assert list(back.tokens) == ["Hello", "\u0120world"]
