"""LoRA adapters on real vLLM: one slot, three adapters, one of which breaks after the start."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tokenizers import Tokenizer

from headway.worker.v1 import worker_pb2 as pb
from services.blocks import block_hashes, chain_root, read_hashes
from tests.golden import greedy_ids
from tests.lora import adapted_greedy_ids, write_adapter
from tests.worker.launched import Launched, launched

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

BLOCK = 32
NAMES = ("clerk", "gone", "poet")


@pytest.fixture(scope="module")
def adapters(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(home / name, demo_model, seed) for seed, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def worker(
    demo_model: Path, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Launched]:
    with launched(
        demo_model,
        tmp_path_factory.mktemp("worker") / "log",
        wait_s=200,
        WORKER_ENGINE="vllm",
        WORKER_MAX_MODEL_LEN="512",
        WORKER_KV_CACHE_BYTES=str(48 << 20),
        WORKER_ADAPTERS=";".join(f"{name}={path}" for name, path in adapters.items()),
        WORKER_MAX_LORAS="1",
    ) as started:
        (adapters["gone"] / "adapter_model.safetensors").unlink()
        yield started
        assert started.stop() == 0


@pytest.fixture(scope="module")
def prompt(tokenizer: Tokenizer) -> list[int]:
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def generate(
    worker: Launched, request_id: str, adapter: str, ids: Sequence[int], max_tokens: int = 16
) -> list[pb.Delta]:
    request = pb.GenerateRequest(
        request_id=request_id,
        model="main",
        adapter=adapter,
        prompt_token_ids=ids,
        sampling=pb.Sampling(temperature=0, max_tokens=max_tokens, ignore_eos=True),
    )
    return [message.delta for message in worker.stub.Generate(request)]


def ids_of(deltas: Sequence[pb.Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


def loaded(worker: Launched) -> list[str]:
    return list(worker.stub.Describe(pb.DescribeRequest()).loaded_adapters)


@pytest.mark.filterwarnings("default")
def test_an_adapter_says_what_transformers_says_with_it_merged_in(
    worker: Launched, adapters: dict[str, Path], prompt: list[int], demo_model: Path
) -> None:
    base = ids_of(generate(worker, "base", "", prompt))
    poet = ids_of(generate(worker, "poet", "poet", prompt))
    assert base[:8] == greedy_ids(demo_model, prompt, 8)
    assert poet == adapted_greedy_ids(demo_model, adapters["poet"], prompt, 16)
    assert poet != base


def test_the_scheduler_hears_what_is_loaded_and_how_long_it_took(
    worker: Launched, prompt: list[int]
) -> None:
    assert worker.stub.Describe(pb.DescribeRequest()).adapters == list(NAMES)
    generate(worker, "c", "clerk", prompt, max_tokens=1)
    worker.scheduler.wait_for(lambda: worker.scheduler.reports[-1].loaded_adapters == ["clerk"])
    loads = [load for report in worker.scheduler.reports for load in report.adapter_loads]
    assert loads[-1].adapter == "clerk"
    assert 0 < loads[-1].load_us < 5e6


def test_first_uses_at_once_take_turns_in_one_slot(worker: Launched, prompt: list[int]) -> None:
    alone = [ids_of(generate(worker, f"a-{name}", name, prompt)) for name in ("poet", "clerk")]
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(generate, worker, f"t-{number}", ("poet", "clerk")[number % 2], prompt)
            for number in range(8)
        ]
        together = [ids_of(each.result()) for each in asked]
    assert together == alone * 4
    assert len(loaded(worker)) == 1


def test_an_adapter_that_cannot_be_loaded_fails_its_requests_alone(
    worker: Launched, prompt: list[int]
) -> None:
    for attempt in range(2):
        with pytest.raises(grpc.RpcError) as refused:
            generate(worker, f"gone-{attempt}", "gone", prompt)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        assert refused.value.details() == "adapter 'gone' cannot be loaded"
    assert len(ids_of(generate(worker, "still", "", prompt, max_tokens=2))) == 2
    assert len(ids_of(generate(worker, "too", "poet", prompt, max_tokens=2))) == 2
    assert loaded(worker) == ["poet"]


def test_blocks_of_an_adapter_are_known_under_its_own_root(worker: Launched) -> None:
    ids = list(range(1000, 1000 + 3 * BLOCK + 5))
    wire = b"".join(each.to_bytes(4, "little") for each in ids)

    def is_known(adapter: str) -> bool:
        hashes = read_hashes(block_hashes(wire, BLOCK, chain_root("main", adapter)))
        return set(hashes) <= set(+worker.scheduler.blocks)

    generate(worker, "kv", "poet", ids, max_tokens=1)
    worker.scheduler.wait_for(lambda: is_known("poet"))
    assert not is_known("")
    (first, *_) = generate(worker, "kv-base", "", ids, max_tokens=1)
    assert first.started.cached_tokens == 0
    worker.scheduler.wait_for(lambda: is_known(""))
    generate(worker, "other", "clerk", ids, max_tokens=1)  # unloads the poet, not its blocks
    (first, *_) = generate(worker, "kv-again", "poet", ids, max_tokens=1)
    assert first.started.cached_tokens == 3 * BLOCK
