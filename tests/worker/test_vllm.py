"""The worker on real vLLM, as its own process. One engine for all tests of this file."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tokenizers import Tokenizer

from headway.worker.v1 import worker_pb2 as pb
from services.blocks import block_hashes, chain_root, read_hashes
from tests.golden import greedy_ids
from tests.worker.launched import Launched, children, launched, wait_until_gone

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

BLOCK = 32
QUESTIONS = (
    "What is the capital of France?",
    "Name three colours.",
    "Write one sentence about the sea.",
    "What is 2 + 2?",
    "Say hello in Spanish.",
    "Who wrote Hamlet?",
    "Explain gravity briefly.",
    "List two fruits, and say why they are healthy.",
)


@pytest.fixture(scope="module")
def worker(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    # A small cache, so that evictions happen.
    with launched(
        demo_model,
        tmp_path_factory.mktemp("worker") / "log",
        wait_s=200,
        WORKER_ENGINE="vllm",
        WORKER_MAX_MODEL_LEN="512",
        WORKER_KV_CACHE_BYTES=str(48 << 20),
    ) as started:
        yield started
        engines = list(children(started.process.pid))
        assert started.stop() == 0
        assert wait_until_gone(engines) == []


def prompt(tokenizer: Tokenizer, question: str) -> list[int]:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def generate(
    worker: Launched, request_id: str, ids: Sequence[int], **sampling: object
) -> list[pb.Delta]:
    chosen = {"temperature": 0.0, "max_tokens": 24} | sampling
    request = pb.GenerateRequest(
        request_id=request_id,
        model="main",
        prompt_token_ids=ids,
        sampling=pb.Sampling(**chosen),  # type: ignore[arg-type]
    )
    return [message.delta for message in worker.stub.Generate(request)]


def ids_of(deltas: Sequence[pb.Delta], choice: int = 0) -> list[int]:
    return [token for delta in deltas if delta.choice == choice for token in delta.token_ids]


def text_of(deltas: Sequence[pb.Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@pytest.mark.filterwarnings("default")
def test_greedy_is_what_transformers_says(
    worker: Launched, tokenizer: Tokenizer, demo_model: Path
) -> None:
    prompts = [prompt(tokenizer, question) for question in QUESTIONS]
    golden = [greedy_ids(demo_model, each, 24) for each in prompts]
    alone = [generate(worker, f"alone-{n}", each) for n, each in enumerate(prompts)]
    with ThreadPoolExecutor(8) as pool:
        names = [f"together-{n}" for n in range(8)]
        together = list(
            pool.map(lambda pair: generate(worker, *pair), zip(names, prompts, strict=True))
        )
    assert [ids_of(deltas) for deltas in alone] == golden
    assert [ids_of(deltas) for deltas in together] == golden
    expected = [tokenizer.decode(ids, skip_special_tokens=True) for ids in golden]
    assert [text_of(deltas) for deltas in alone] == expected


def test_equal_choices_are_equal(worker: Launched, tokenizer: Tokenizer) -> None:
    deltas = generate(worker, "n", prompt(tokenizer, QUESTIONS[0]), choices=3, max_tokens=5)
    assert ids_of(deltas, 0) == ids_of(deltas, 1) == ids_of(deltas, 2) != []


def test_a_resumed_request_says_the_rest(worker: Launched, tokenizer: Tokenizer) -> None:
    ids = prompt(tokenizer, QUESTIONS[2])
    whole = generate(worker, "whole", ids)
    seen = whole[:9]  # a slow reader's deltas hold several tokens
    request = pb.GenerateRequest(
        request_id="rest",
        model="main",
        prompt_token_ids=ids,
        generated=b"".join(each.to_bytes(4, "little") for each in ids_of(seen)),
        sampling=pb.Sampling(temperature=0, max_tokens=24),
    )
    rest = [message.delta for message in worker.stub.Generate(request)]
    assert ids_of(rest) == ids_of(whole)[len(ids_of(seen)) :]
    assert text_of(seen) + text_of(rest) == text_of(whole)


def test_a_stop_string_stops(worker: Launched, tokenizer: Tokenizer) -> None:
    ids = prompt(tokenizer, QUESTIONS[0])
    whole = text_of(generate(worker, "s0", ids))
    stop = whole[6:12]
    deltas = generate(worker, "s1", ids, stop=[stop])
    assert text_of(deltas) == whole[: whole.index(stop)]
    assert deltas[-1].finish.stop_text == stop


def test_the_scheduler_knows_exactly_what_is_cached(worker: Launched) -> None:
    ids = list(range(1000, 1000 + 3 * BLOCK + 5))
    generate(worker, "kv", ids, max_tokens=1)
    wire = b"".join(each.to_bytes(4, "little") for each in ids)
    expected = set(read_hashes(block_hashes(wire, BLOCK, chain_root("main"))))
    worker.scheduler.wait_for(lambda: expected <= set(+worker.scheduler.blocks))
    # More than the cache holds: what the scheduler still knows is what still hits.
    for number in range(8):
        start = 2000 + 400 * number
        generate(worker, f"evict-{number}", range(start, start + 400), max_tokens=1)
    worker.scheduler.wait_for(lambda: not expected & set(+worker.scheduler.blocks))
    (first, *_) = generate(worker, "again", ids, max_tokens=1)
    assert first.started.cached_tokens == 0
    assert min(worker.scheduler.blocks.values()) >= 0


def test_stages_are_plausible_and_whole(worker: Launched) -> None:
    (first, *_) = generate(worker, "stages", range(3000, 3200), max_tokens=2)
    timings = first.started.timings
    assert timings.prefill_us > 1000
    assert timings.worker_ingress_us + timings.engine_queue_us < timings.prefill_us
    worker.scheduler.wait_for(
        lambda: any(
            each.request_id == "stages" and each.computed_tokens == 200
            for report in worker.scheduler.reports
            for each in report.prefills
        )
    )


def test_logprobs(worker: Launched, tokenizer: Tokenizer) -> None:
    ids = prompt(tokenizer, QUESTIONS[0])
    deltas = generate(worker, "lp", ids, max_tokens=3, logprobs=2, prompt_logprobs=1)
    each = [entry for delta in deltas for entry in delta.logprobs]
    assert [entry.token.token_id for entry in each] == ids_of(deltas)
    assert all(entry.top[0] == entry.token for entry in each)  # greedy takes the likeliest
    assert [len(entry.top) for entry in each] == [2, 2, 2]
    assert b"".join(entry.token.text for entry in each).decode() == text_of(deltas)
    of_prompt = deltas[0].started.prompt_logprobs
    assert [entry.token.token_id for entry in of_prompt] == ids
    assert [entry.token.HasField("logprob") for entry in of_prompt[:2]] == [False, True]
    assert [entry.HasField("rank") for entry in of_prompt[:2]] == [False, True]
    assert all((entry.rank == 1) is (entry.top[0] == entry.token) for entry in of_prompt[1:])


def test_a_form_is_kept(worker: Launched, tokenizer: Tokenizer) -> None:
    form = pb.Constraint(regex="(red|blue){2}")
    deltas = generate(worker, "form", prompt(tokenizer, QUESTIONS[1]), constraint=form)
    assert text_of(deltas) in {"redred", "redblue", "bluered", "blueblue"}


@pytest.mark.parametrize(
    ("sampling", "parameter"),
    [
        pytest.param({"constraint": pb.Constraint(regex="(")}, "constraint", id="no-regex"),
        pytest.param({"constraint": pb.Constraint(json_schema="{")}, "constraint", id="no-json"),
        pytest.param(
            {"constraint": pb.Constraint(json_schema='{"type": 3}')}, "constraint", id="no-schema"
        ),
        pytest.param({"logit_bias": {49_152: 1.0}}, "logit_bias", id="bias-on-no-token"),
    ],
)
def test_what_the_engine_refuses_harms_nobody(
    worker: Launched, sampling: dict[str, object], parameter: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        generate(worker, "bad", [1, 2, 3], **sampling)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert parameter in [str(each.value) for each in refused.value.trailing_metadata() or ()]
    assert "/project" not in (refused.value.details() or "")
    assert len(ids_of(generate(worker, "fine", [1, 2, 3], max_tokens=2, ignore_eos=True))) == 2


def test_an_aborted_request_frees_its_slot(worker: Launched) -> None:
    request = pb.GenerateRequest(
        request_id="long",
        model="main",
        prompt_token_ids=[1, 2, 3],
        sampling=pb.Sampling(temperature=0, max_tokens=500, ignore_eos=True),
    )
    call = worker.stub.Generate(request)
    next(call)
    worker.stub.Abort(pb.AbortRequest(request_id="long"))
    assert list(call)[-1].delta.finish.reason == pb.FINISH_REASON_ABORTED
    worker.scheduler.wait_for(lambda: worker.scheduler.reports[-1].running_requests == 0)
