"""Embeddings on a real worker, asked by the official SDK."""

import base64
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from tokenizers import Tokenizer

from tests.system import System

pytestmark = pytest.mark.vllm

SENTENCES = ["The sea is wide.", "An ocean is very large.", "Tax forms are due on Monday."]


@pytest.fixture
def client(vllm_system: System) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{vllm_system.url}/v1", api_key="unused", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def tokenizer(embedding_model: Path) -> Tokenizer:
    read = Tokenizer.from_file(str(embedding_model / "tokenizer.json"))
    read.no_padding()
    read.no_truncation()
    return read


def embed(client: OpenAI, given: Any, **more: Any) -> list[list[float]]:
    answered = client.embeddings.create(model="minilm", input=given, **more)
    assert [each.index for each in answered.data] == list(range(len(answered.data)))
    return [each.embedding for each in answered.data]


def likeness(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_what_means_the_same_is_near(client: OpenAI) -> None:
    sea, ocean, tax = embed(client, SENTENCES)
    assert all(math.hypot(*vector) == pytest.approx(1, abs=1e-5) for vector in (sea, ocean, tax))
    assert likeness(sea, ocean) > likeness(sea, tax) + 0.3


def test_many_are_what_each_is_alone_and_in_order(client: OpenAI) -> None:
    texts = [f"{sentence} {number}" for number in range(20) for sentence in SENTENCES]
    together = embed(client, texts)
    for position in (0, 31, 59):
        [alone] = embed(client, texts[position])
        assert together[position] == pytest.approx(alone, abs=1e-5)


def test_floats_and_base64_hold_the_same_numbers(client: OpenAI, vllm_system: System) -> None:
    raw = httpx.post(
        f"{vllm_system.url}/v1/embeddings",
        json={"model": "minilm", "input": SENTENCES[0], "encoding_format": "base64"},
    ).json()
    decoded = array("f", base64.b64decode(raw["data"][0]["embedding"])).tolist()
    assert [decoded] == embed(client, SENTENCES[0], encoding_format="float")
    assert len(decoded) == 384


def test_ids_are_what_the_text_is_and_usage_is_their_count(
    client: OpenAI, tokenizer: Tokenizer
) -> None:
    ids = [tokenizer.encode(sentence).ids for sentence in SENTENCES]
    by_ids = client.embeddings.create(model="minilm", input=ids)
    by_text = client.embeddings.create(model="minilm", input=SENTENCES)
    for one, other in zip(by_ids.data, by_text.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-5)
    assert by_ids.usage == by_text.usage
    assert by_text.usage.prompt_tokens == sum(map(len, ids)) == by_text.usage.total_tokens


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        pytest.param({"input": ""}, "input", id="empty"),
        pytest.param({"input": []}, "input", id="none"),
        pytest.param({"input": [1, 4_000_000]}, "input", id="out-of-the-vocabulary"),
        pytest.param({"input": "sea " * 5000}, "input", id="over-the-context"),
        pytest.param({"input": "a", "dimensions": 64}, "dimensions", id="dimensions"),
        pytest.param({"input": "a", "extra_body": {"colour": 1}}, "colour", id="unknown"),
    ],
)
def test_what_is_wrong_is_the_sdks_bad_request(
    client: OpenAI, asked: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.embeddings.create(model="minilm", **asked)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert len(embed(client, "still there")) == 1


def test_a_model_that_generates_does_not_embed(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="chat/completions"):
        client.embeddings.create(model="smollm2", input="a")
