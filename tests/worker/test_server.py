"""The worker's door, on the simulated engine, over real gRPC."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import grpc
import pytest
from tokenizers import Tokenizer

from headway.worker.v1 import worker_pb2 as pb
from services.worker.engine import EngineBroken, Output, Push, Run
from services.worker.parsing import Parser, ParserBroken
from services.worker.requests import Request
from services.worker.text import Decoder
from services.worker.wire import single_deltas
from tests.worker.conftest import Serve, Served, simulated

PROMPT = list(range(100, 140))


def asked(request_id: str = "r", **changes: object) -> pb.GenerateRequest:
    sampling = {"temperature": 0.0, "max_tokens": 6}
    names = pb.Sampling.DESCRIPTOR.fields_by_name
    sampling |= {name: value for name, value in changes.items() if name in names}  # type: ignore[misc]
    fields = {name: value for name, value in changes.items() if name not in names}
    fields = {"request_id": request_id, "model": "main", "prompt_token_ids": PROMPT, **fields}
    return pb.GenerateRequest(**fields, sampling=pb.Sampling(**sampling))  # type: ignore[arg-type]


async def generate(served: Served, request: pb.GenerateRequest) -> list[pb.Delta]:
    return [message.delta async for message in served.stub.Generate(request)]


def text(deltas: Sequence[pb.Delta], choice: int = 0) -> str:
    return "".join(delta.text for delta in deltas if delta.choice == choice)


def ids(deltas: Sequence[pb.Delta], choice: int = 0) -> list[int]:
    return [token for delta in deltas if delta.choice == choice for token in delta.token_ids]


def wire(tokens: Sequence[int]) -> bytes:
    return b"".join(token.to_bytes(4, "little") for token in tokens)


class Pipe:
    """An edge's end of a pipe."""

    def __init__(self, served: Served) -> None:
        self._call = served.stub.Pipe()
        self.frames: list[pb.PipeResponse] = []

    async def send(self, *start: tuple[int, pb.GenerateRequest], abort: Sequence[int] = ()) -> None:
        starts = [pb.StartRequest(request=number, generate=each) for number, each in start]
        await self._call.write(pb.PipeRequest(start=starts, abort=abort))

    async def deltas(self, until: int) -> dict[int, list[pb.Delta]]:
        """The deltas by request, read until this many choices have ended."""
        got: dict[int, list[pb.Delta]] = {}
        ended = 0
        while ended < until:
            frame = await self._call.read()
            assert isinstance(frame, pb.PipeResponse)
            self.frames.append(frame)
            for delta in single_deltas(frame):
                got.setdefault(delta.request, []).append(delta)
                ended += delta.HasField("finish") or delta.HasField("failed")
        return got

    async def half_close(self) -> list[pb.PipeResponse]:
        await self._call.done_writing()
        frames = []
        while isinstance(frame := await self._call.read(), pb.PipeResponse):
            frames.append(frame)
        return frames

    def cut(self) -> None:
        self._call.cancel()


TOOLS = [pb.Tool(name="f")]


@pytest.mark.parametrize(
    ("parsing", "parameter"),
    [
        pytest.param(pb.Parsing(), "", id="nothing-to-tell-apart"),
        pytest.param(
            pb.Parsing(tools=TOOLS, tool_choice=pb.TOOL_CHOICE_NONE), "", id="no-tool-to-call"
        ),
        pytest.param(
            pb.Parsing(tools=TOOLS, tool_choice=pb.TOOL_CHOICE_AUTO), "tools", id="a-tool-to-call"
        ),
        pytest.param(pb.Parsing(tool_choice=99), "tool_choice", id="an-unknown-choice"),  # type: ignore[arg-type]
    ],
)
async def test_the_simulator_calls_no_tools(
    serve: Serve, parsing: pb.Parsing, parameter: str
) -> None:
    async with serve() as worker:
        pipe = Pipe(worker)
        await pipe.send((1, asked(parsing=parsing)))
        [*_, last] = (await pipe.deltas(until=1))[1]
        assert last.failed.parameter == parameter
        assert last.HasField("finish") is (parameter == "")
        pipe.cut()


async def test_generate_streams_one_request(serve: Serve, tokenizer: Tokenizer) -> None:
    async with serve() as worker:
        deltas = await generate(worker, asked())
    assert len(ids(deltas)) == 6
    assert text(deltas) == tokenizer.decode(ids(deltas))
    assert text(deltas).replace(" ", "").isalpha()
    assert [delta.HasField("started") for delta in deltas] == [True, *[False] * (len(deltas) - 1)]
    assert deltas[0].started.epoch == worker.identity.epoch
    assert deltas[-1].finish.reason == pb.FINISH_REASON_LENGTH
    assert deltas[-1].finish.completion_tokens == 6
    assert worker.metric("headway_worker_requests_total", outcome="completed") == 1


async def test_the_second_time_comes_from_the_cache(serve: Serve) -> None:
    async with serve() as worker:
        first = await generate(worker, asked())
        second = await generate(worker, asked(prompt_token_ids=[], prompt=wire(PROMPT)))
    assert (first[0].started.cached_tokens, second[0].started.cached_tokens) == (0, 32)
    assert text(first) == text(second)


async def test_a_salted_cache_is_nobody_elses(serve: Serve) -> None:
    async with serve() as worker:
        await generate(worker, asked())
        (first, *_) = await generate(worker, asked(cache_salt="mine"))
    assert first.started.cached_tokens == 0


async def test_greedy_choices_are_equal_and_sampled_ones_are_not(serve: Serve) -> None:
    async with serve() as worker:
        greedy = await generate(worker, asked(choices=3))
        sampled = await generate(worker, asked(choices=3, temperature=1.0, seed=4))
        again = await generate(worker, asked(choices=3, temperature=1.0, seed=4))
    assert len({text(greedy, choice) for choice in range(3)}) == 1
    assert len({text(sampled, choice) for choice in range(3)}) == 3
    assert [ids(sampled, choice) for choice in range(3)] == [ids(again, each) for each in range(3)]
    for deltas in (greedy, sampled):
        assert sum(delta.HasField("finish") for delta in deltas) == 3
        assert sum(delta.HasField("started") for delta in deltas) == 1


@pytest.mark.parametrize("done", [0, 1, 7, 19])
async def test_a_resumed_request_says_the_rest(serve: Serve, done: int) -> None:
    async with serve() as worker:
        whole = await generate(worker, asked(max_tokens=20))
    seen = whole[:done]  # a slow reader's deltas hold several tokens
    async with serve() as another:
        request = asked(max_tokens=20, generated=wire(ids(seen)))
        rest = await generate(another, request)
    assert ids(rest) == ids(whole)[len(ids(seen)) :]
    assert text(seen) + text(rest) == text(whole)
    assert rest[-1].finish.completion_tokens == 20


async def test_a_stop_string_ends_the_text_before_it(serve: Serve) -> None:
    async with serve() as worker:
        words = text(await generate(worker, asked(max_tokens=20))).split(" ")
        stop = words[3][-1] + " " + words[4]
        deltas = await generate(worker, asked(max_tokens=20, stop=["never", stop]))
        included = await generate(worker, asked(max_tokens=20, stop=[stop], include_stop=True))
    assert text(deltas) == " ".join(words[:4])[:-1]
    assert text(included) == " ".join(words[:5])
    assert deltas[-1].finish.reason == pb.FINISH_REASON_STOP
    assert deltas[-1].finish.stop_text == stop
    assert deltas[-1].finish.completion_tokens == len(ids(deltas)) < 20
    assert worker.engine.load().running == 0


async def test_a_stop_token_is_named(serve: Serve) -> None:
    async with serve() as worker:
        whole = ids(await generate(worker, asked()))
        deltas = await generate(worker, asked(stop_token_ids=[whole[2]]))
    assert (deltas[-1].finish.stop_token_id, ids(deltas)) == (whole[2], whole[:3])


async def test_no_limit_means_the_context(serve: Serve) -> None:
    async with serve(base_ms=0) as worker:
        request = asked(prompt_token_ids=[1] * 990)
        request.sampling.ClearField("max_tokens")
        deltas = await generate(worker, request)
    assert len(ids(deltas)) == 10


@pytest.mark.parametrize(
    ("request_", "status", "parameter"),
    [
        pytest.param(asked(model="x"), grpc.StatusCode.NOT_FOUND, "model", id="unknown-model"),
        pytest.param(
            asked(adapter="x"), grpc.StatusCode.NOT_FOUND, "adapter", id="unknown-adapter"
        ),
        pytest.param(
            asked(prompt_token_ids=[49_152]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "prompt",
            id="no-token",
        ),
        pytest.param(
            asked(prompt_token_ids=[], prompt=b"123"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "prompt",
            id="half-an-id",
        ),
        pytest.param(
            asked(prompt_token_ids=[1] * 1000),
            grpc.StatusCode.INVALID_ARGUMENT,
            "prompt",
            id="fills-the-context",
        ),
        pytest.param(
            asked(max_tokens=961),
            grpc.StatusCode.INVALID_ARGUMENT,
            "max_tokens",
            id="too-many-tokens",
        ),
        pytest.param(
            asked(temperature=3.0), grpc.StatusCode.INVALID_ARGUMENT, "temperature", id="too-hot"
        ),
        pytest.param(
            asked(constraint=pb.Constraint()),
            grpc.StatusCode.INVALID_ARGUMENT,
            "constraint",
            id="a-form-of-nothing",
        ),
        pytest.param(
            asked(logprobs=0), grpc.StatusCode.INVALID_ARGUMENT, "logprobs", id="not-simulated"
        ),
        pytest.param(
            asked(presence_penalty=1.0),
            grpc.StatusCode.INVALID_ARGUMENT,
            "presence_penalty",
            id="penalties-not-simulated",
        ),
        pytest.param(
            asked(constraint=pb.Constraint(regex="a")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "constraint",
            id="forms-not-simulated",
        ),
    ],
)
async def test_bad_requests_are_refused_and_harm_nobody(
    serve: Serve, request_: pb.GenerateRequest, status: grpc.StatusCode, parameter: str
) -> None:
    async with serve() as worker:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generate(worker, request_)
        pipe = Pipe(worker)
        await pipe.send((1, request_), (2, asked("fine")))
        deltas = await pipe.deltas(until=2)
        pipe.cut()
    assert refused.value.code() == status
    assert ("headway-parameter", parameter) in list(refused.value.trailing_metadata())
    assert deltas[1][0].failed.parameter == parameter
    assert len(ids(deltas[2])) == 6


async def test_one_frame_holds_all_deltas_of_a_step(serve: Serve) -> None:
    async with serve(base_ms=20) as worker:
        pipe = Pipe(worker)
        await pipe.send(*[(number, asked(str(number))) for number in range(1, 31)])
        deltas = await pipe.deltas(until=30)
        pipe.cut()
    assert {number: len(ids(each)) for number, each in deltas.items()} == dict.fromkeys(
        range(1, 31), 6
    )
    assert len(pipe.frames) == 6
    assert worker.metric("headway_worker_frames_total") == 6


async def test_stages_are_told_with_the_first_delta(serve: Serve) -> None:
    async with serve(base_ms=30) as worker:
        pipe = Pipe(worker)
        await pipe.send((1, asked()))
        deltas = await pipe.deltas(until=1)
        pipe.cut()
    timings = deltas[1][0].started.timings
    assert 30_000 <= timings.prefill_us < 300_000
    assert timings.worker_ingress_us + timings.engine_queue_us + timings.worker_egress_us < 300_000


async def test_an_id_runs_once(serve: Serve) -> None:
    async with serve() as worker:
        pipe = Pipe(worker)
        await pipe.send((1, asked("same", max_tokens=50)), (2, asked("same")))
        deltas = await pipe.deltas(until=2)
        pipe.cut()
    assert deltas[2][0].failed.reason == pb.FAILURE_REASON_DUPLICATE
    assert len(ids(deltas[1])) == 50


async def test_abort_on_a_pipe_ends_with_aborted(serve: Serve) -> None:
    async with serve() as worker:
        pipe = Pipe(worker)
        await pipe.send((1, asked("a", max_tokens=900)), (2, asked("b", max_tokens=40)))
        await pipe.send(abort=[1, 99])
        deltas = await pipe.deltas(until=2)
        pipe.cut()
        assert worker.metric("headway_worker_requests_total", outcome="aborted") == 1
        assert worker.metric("headway_cancel_seconds_count") == 1
    assert deltas[1][-1].finish.reason == pb.FINISH_REASON_ABORTED
    assert deltas[2][-1].finish.reason == pb.FINISH_REASON_LENGTH


async def test_abort_by_hand(serve: Serve) -> None:
    async with serve() as worker:
        call = worker.stub.Generate(asked("r", max_tokens=900, choices=2, temperature=1.0))
        await running(worker, 2)
        await worker.stub.Abort(pb.AbortRequest(request_id="r"))
        last = [message.delta async for message in call if message.delta.HasField("finish")]
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await worker.stub.Abort(pb.AbortRequest(request_id="r"))
    assert [each.finish.reason for each in last] == [pb.FINISH_REASON_ABORTED] * 2
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_pipe_that_is_cut_leaves_nothing_running(serve: Serve) -> None:
    async with serve() as worker:
        pipe = Pipe(worker)
        requests = [(number, asked(str(number), max_tokens=900)) for number in range(1, 9)]
        await pipe.send(*requests)
        await pipe.deltas(until=0)
        await running(worker, 8)
        pipe.cut()
        await asyncio.wait_for(worker.worker.idle(), 5)
        assert worker.engine.load().running == 0
        assert worker.metric("headway_worker_requests_total", outcome="cancelled") == 8


async def test_a_call_that_is_cancelled_frees_the_engine(serve: Serve) -> None:
    async with serve() as worker:
        call = worker.stub.Generate(asked(max_tokens=900))
        await call.read()
        call.cancel()
        await asyncio.wait_for(worker.worker.idle(), 5)
        assert worker.engine.load().running == 0


async def running(worker: Served, count: int) -> None:
    while worker.engine.load().running < count:  # noqa: ASYNC110 (the engine has no event for it)
        await asyncio.sleep(0.001)


async def test_an_edge_that_sends_no_more_still_gets_the_rest(serve: Serve) -> None:
    async with serve() as worker:
        pipe = Pipe(worker)
        await pipe.send((1, asked(max_tokens=30)))
        frames = await pipe.half_close()
    deltas = [delta for frame in frames for delta in single_deltas(frame)]
    assert len(ids(deltas)) == 30
    assert deltas[-1].HasField("finish")


async def test_a_draining_worker_finishes_what_it_has(serve: Serve) -> None:
    async with serve() as worker:
        pipe = Pipe(worker)
        await pipe.send((1, asked("a", max_tokens=50)))
        await running(worker, 1)
        worker.worker.drain()
        await pipe.send((2, asked("b")))
        deltas = await pipe.deltas(until=2)
        pipe.cut()
    assert deltas[2][0].failed.reason == pb.FAILURE_REASON_UNAVAILABLE
    assert len(ids(deltas[1])) == 50


async def test_describe(serve: Serve) -> None:
    async with serve(capacity_blocks=77) as worker:
        answer = await worker.stub.Describe(pb.DescribeRequest())
    assert (answer.engine, answer.capacity_blocks) == ("sim", 77)
    assert list(answer.models) == ["main", "alias"]
    assert (answer.max_model_tokens, answer.vocabulary_size) == (1000, 49_152)


async def test_embed(serve: Serve) -> None:
    async with serve(kind="embed") as worker:
        request = pb.EmbedRequest(request_id="e", model="main", token_ids=[1, 2, 3])
        answer = await worker.stub.Embed(request)
        same = await worker.stub.Embed(
            pb.EmbedRequest(request_id="e", model="main", tokens=wire([1, 2, 3]))
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generate(worker, asked())
        assert [each.computed_tokens for each in worker.worker.prefills] == [3, 3]
        assert all(each.prefill_s > 0 for each in worker.worker.prefills)
    assert (len(answer.values), answer.prompt_tokens) == (384, 3)
    assert answer.values == same.values
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_worker_that_generates_does_not_embed(serve: Serve) -> None:
    async with serve() as worker:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await worker.stub.Embed(pb.EmbedRequest(model="main", token_ids=[1]))
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


class Breaking:
    """Parsers of a model whose answers none of them can read."""

    def plan(self, request: Request) -> Request:
        return replace(request, parser=self._make)

    def _make(self) -> Parser:
        raise ParserBroken


async def test_a_parser_that_breaks_ends_its_own_request_alone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as served:
        monkeypatch.setattr(served.worker, "_parsers", Breaking())
        pipe = Pipe(served)
        parsed = asked("parsed", parsing=pb.Parsing())
        await pipe.send((1, parsed), (2, asked("plain")))
        got = await pipe.deltas(until=2)
        assert got[1][-1].failed.reason == pb.FAILURE_REASON_PARSER
        assert len(ids(got[2])) == 6
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await generate(served, parsed)
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert not served.worker.running


async def test_an_engine_that_breaks_fails_its_requests(serve: Serve, tokenizer: Tokenizer) -> None:
    engine = simulated(tokenizer)

    async def broken(run: Run, push: Push) -> None:
        push(Output([500]))
        raise EngineBroken("a secret of the engine")

    engine.generate = broken  # type: ignore[method-assign]
    async with serve(engine) as worker:
        pipe = Pipe(worker)
        await pipe.send((1, asked()))
        deltas = await pipe.deltas(until=1)
        pipe.cut()
    failed = deltas[1][-1].failed
    assert (failed.reason, failed.message) == (pb.FAILURE_REASON_ENGINE, "the engine failed")


async def test_an_output_that_cannot_be_decoded_ends_its_own_request_alone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, poison = Decoder.step, 3

    def fails_on_the_third_token(decoder: Decoder, token_id: int) -> str:
        nonlocal poison
        poison -= 1
        if not poison:
            raise RuntimeError("a secret of the decoder")
        return step(decoder, token_id)

    monkeypatch.setattr(Decoder, "step", fails_on_the_third_token)
    async with serve() as worker:
        pipe = Pipe(worker)
        await pipe.send((1, asked("a")), (2, asked("b")))  # the third is the first one's second
        deltas = await pipe.deltas(until=2)
        pipe.cut()
        await asyncio.wait_for(worker.worker.idle(), 5)
        assert worker.engine.load().running == 0
        assert worker.metric("headway_worker_requests_total", outcome="engine") == 1
    failed = deltas[1][-1].failed
    assert (failed.reason, failed.message) == (pb.FAILURE_REASON_ENGINE, "the engine failed")
    assert len(ids(deltas[2])) == 6
    assert deltas[2][-1].HasField("finish")


async def test_a_stop_string_frees_the_engine_within_its_step(
    serve: Serve, tokenizer: Tokenizer
) -> None:
    engine = simulated(tokenizer)
    generated = engine.generate
    running: list[int] = []

    async def watched(run: Run, push: Push) -> None:
        def noted(output: Output) -> bool:
            goes_on = push(output)
            if not goes_on:  # what is called soon now is called before the run's task wakes
                loop.call_soon(lambda: running.append(engine.load().running))
            return goes_on

        loop = asyncio.get_running_loop()
        await generated(run, noted)

    engine.generate = watched  # type: ignore[method-assign]
    async with serve(engine) as worker:
        deltas = await generate(worker, asked(max_tokens=500, stop=[" "]))
    assert deltas[-1].finish.stop_text == " "
    assert running == [0]
