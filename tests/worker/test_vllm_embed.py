"""The worker on real vLLM, embedding."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tokenizers import Tokenizer

from headway.worker.v1 import worker_pb2 as pb
from tests.worker.launched import Launched, launched

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def worker(embedding_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    logs = tmp_path_factory.mktemp("worker") / "log"
    with launched(embedding_model, logs, 200, WORKER_ENGINE="vllm", WORKER_KIND="embed") as started:
        yield started
        assert started.stop() == 0


def pooled(model: Path, ids: list[int]) -> list[float]:
    """What transformers says: the mean of the last layer, of length 1."""
    import torch
    from transformers import AutoModel

    network: Any = AutoModel.from_pretrained(model, dtype=torch.float32)
    network.eval()
    with torch.inference_mode():
        states = network(torch.tensor([ids])).last_hidden_state[0]
    values: list[float] = torch.nn.functional.normalize(states.mean(0), dim=0).tolist()
    return values


@pytest.mark.filterwarnings("default")
def test_an_embedding_is_what_transformers_says(worker: Launched, embedding_model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(embedding_model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = tokenizer.encode("The sea is wide.").ids
    answer = worker.stub.Embed(pb.EmbedRequest(request_id="e", model="main", token_ids=ids))
    assert answer.prompt_tokens == len(ids)
    assert list(answer.values) == pytest.approx(pooled(embedding_model, ids), abs=1e-5)


def test_it_has_no_prefix_cache_and_says_so(worker: Launched) -> None:
    assert worker.stub.Describe(pb.DescribeRequest()).capacity_blocks == 0


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param([], id="empty"),
        pytest.param([30_522], id="out-of-the-vocabulary"),
        pytest.param([1] * 600, id="too-long"),
    ],
)
def test_bad_inputs_are_refused(worker: Launched, ids: list[int]) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        worker.stub.Embed(pb.EmbedRequest(request_id="bad", model="main", token_ids=ids))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    good = pb.EmbedRequest(request_id="good", model="main", token_ids=[101, 102])
    assert len(worker.stub.Embed(good).values) == 384
