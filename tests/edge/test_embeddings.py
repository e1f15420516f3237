"""Embeddings: what may be asked, and its way through an edge between scripted services."""

import asyncio
import base64
import json
import math
from array import array
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.scheduler.v1 import scheduler_pb2 as scheduler
from services.edge.apis.openai_embeddings import INPUTS_LIMIT, EmbeddingAsk, Input, parse_embedding
from services.edge.apis.refusals import Invalid
from services.edge.config import Config
from services.edge.embedding import AT_ONCE
from services.edge.tenants import read_tenants
from services.edge.vectors import shortened, written
from tests.edge.conftest import Stage, staged
from tests.edge.scripted import CONTEXT, EMBEDDING_MODEL, MODEL

DOOR = "/v1/embeddings"


def body(given: Any, **more: Any) -> bytes:
    return json.dumps({"model": EMBEDDING_MODEL, "input": given, **more}).encode()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param("sea", [Input("sea", "input")], id="a-text"),
        pytest.param(["sea"], [Input("sea", "input[0]")], id="a-list-of-one"),
        pytest.param([1, 2], [Input([1, 2], "input")], id="token-ids"),
        pytest.param(
            [[1], [2, 3]], [Input([1], "input[0]"), Input([2, 3], "input[1]")], id="lists"
        ),
        pytest.param([[1], "a"], [Input([1], "input[0]"), Input("a", "input[1]")], id="mixed"),
        pytest.param([1] * 5000, [Input([1] * 5000, "input")], id="many-ids-are-one-input"),
    ],
)
def test_inputs(given: Any, found: list[Input]) -> None:
    ask = parse_embedding(body(given))
    assert isinstance(ask, EmbeddingAsk)
    assert ask.inputs == found


@pytest.mark.parametrize(
    ("content", "param"),
    [
        pytest.param(body(""), "input", id="an-empty-text"),
        pytest.param(body([]), "input", id="no-input"),
        pytest.param(body(["a", ""]), "input", id="an-empty-text-among-others"),
        pytest.param(body([[]]), "input", id="no-ids"),
        pytest.param(body([1, "a"]), "input", id="ids-and-texts-in-one-list"),
        pytest.param(body([[1, -1]]), "input", id="a-negative-id"),
        pytest.param(body([True]), "input", id="true-is-no-id"),
        pytest.param(body(["a"] * (INPUTS_LIMIT + 1)), "input", id="too-many"),
        pytest.param(body({"text": "a"}), "input", id="an-object"),
        pytest.param(body("a", encoding_format="int8"), "encoding_format", id="no-such-format"),
        pytest.param(body("a", dimensions=0), "dimensions", id="no-dimensions"),
        pytest.param(body("a", truncate_prompt_tokens=3), "truncate_prompt_tokens", id="unknown"),
        pytest.param(b'{"model":"vector"}', "input", id="missing"),
        pytest.param(b'{"input":"a"}', "model", id="no-model"),
    ],
)
def test_bad_bodies_name_the_parameter(content: bytes, param: str) -> None:
    invalid = parse_embedding(content)
    assert isinstance(invalid, Invalid)
    assert invalid.param == param


vectors = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8)


@given(vectors)
def test_both_formats_hold_the_same_numbers(vector: list[float]) -> None:
    written_as = {form: json.loads(written(array("f", vector), form)) for form in FORMATS}
    decoded = array("f", base64.b64decode(written_as["base64"]))
    assert decoded.tolist() == written_as["float"] == vector


FORMATS = ("float", "base64")


@given(vectors, st.integers(1, 8))
def test_a_shortened_vector_has_length_one(vector: list[float], dimensions: int) -> None:
    cut = shortened(vector, dimensions)
    assert len(cut) == min(dimensions, len(vector))
    if math.hypot(*vector[:dimensions]) > 1e-3:
        assert math.hypot(*cut) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("entry", ["vector", "vector=", "=3", "vector=0", "vector=a|3"])
def test_bad_dimensions_stop_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match="EDGE_MATRYOSHKA"):
        Config(tokenizers=("t",), scheduler="s", matryoshka=(entry,))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """An edge with two workers that embed."""
    async with staged(embedders=2, matryoshka=(f"{EMBEDDING_MODEL}=2|3",)) as built:
        yield built


async def embed(stage: Stage, given: Any, **more: Any) -> httpx.Response:
    return await stage.client.post(DOOR, content=body(given, **more))


async def test_an_answer_has_the_sdks_shape(stage: Stage) -> None:
    answered = await embed(stage, "sea", user="somebody")
    assert answered.json() == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [3.0, ord("s"), 1.0]}],
        "model": EMBEDDING_MODEL,
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert answered.headers["x-request-id"]


async def test_many_keep_their_order_and_spread_over_the_workers(stage: Stage) -> None:
    stage.scheduler.takes_turns = True
    texts = ["x" * (position % 7 + 1) for position in range(100)]
    answered = (await embed(stage, texts)).json()
    assert [each["index"] for each in answered["data"]] == list(range(100))
    assert [each["embedding"][0] for each in answered["data"]] == list(map(len, texts))
    assert answered["usage"]["prompt_tokens"] == sum(map(len, texts))
    assert all(len(each.asked) > 30 for each in stage.embedders)
    assert sum(each.most_running for each in stage.embedders) <= AT_ONCE


async def test_ids_are_embedded_as_texts_are_and_base64_holds_the_same(stage: Stage) -> None:
    text = (await embed(stage, "sea")).json()["data"]
    ids = (await embed(stage, [115, 101, 97])).json()["data"]
    assert text == ids
    encoded = (await embed(stage, "sea", encoding_format="base64")).json()["data"]
    assert array("f", base64.b64decode(encoded[0]["embedding"])).tolist() == text[0]["embedding"]


async def test_dimensions_are_those_that_the_model_was_trained_for(stage: Stage) -> None:
    [entry] = (await embed(stage, "sea", dimensions=2)).json()["data"]
    assert math.hypot(*entry["embedding"]) == pytest.approx(1)
    assert len(entry["embedding"]) == 2
    refused = await embed(stage, "sea", dimensions=7)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "dimensions")
    async with staged(embedders=1) as plain:
        refused = await embed(plain, "sea", dimensions=2)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "dimensions")
        assert not plain.embedders[0].asked


async def test_an_input_over_the_context_is_refused_before_any_runs(stage: Stage) -> None:
    refused = await embed(stage, ["a", "x" * (CONTEXT + 1)])
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "input")
    assert error["code"] == "context_length_exceeded"
    assert "input[1]" in error["message"]
    assert not any(each.asked for each in stage.embedders)
    assert (await embed(stage, "x" * CONTEXT)).status_code == 200


async def test_a_total_over_the_limit_is_refused(stage: Stage) -> None:
    refused = await embed(stage, ["x" * CONTEXT] * 1501)
    assert refused.json()["error"]["code"] == "too_many_tokens"


async def test_a_model_is_told_where_to_go(stage: Stage) -> None:
    chat_model = await stage.client.post(DOOR, json={"model": MODEL, "input": "a"})
    error = chat_model.json()["error"]
    assert (chat_model.status_code, error["param"]) == (404, "model")
    assert "/v1/chat/completions" in error["message"]
    assert EMBEDDING_MODEL in error["message"]
    embeds = await stage.chat(model=EMBEDDING_MODEL)
    assert (embeds.status_code, embeds.json()["error"]["param"]) == (404, "model")
    assert "/v1/embeddings" in embeds.json()["error"]["message"]
    nobody = await stage.client.post(DOOR, json={"model": "nobody", "input": "a"})
    assert nobody.status_code == 404
    assert EMBEDDING_MODEL in nobody.json()["error"]["message"]


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND])
async def test_an_input_that_a_worker_lost_goes_to_another(
    stage: Stage, status: grpc.StatusCode
) -> None:
    stage.embedders[0].status = status
    answered = await embed(stage, ["a", "bc"])
    assert [each["embedding"][0] for each in answered.json()["data"]] == [1, 2]
    assert answered.json()["usage"]["prompt_tokens"] == 3
    await stage.scheduler.until(lambda scheduler: len(scheduler.finished) == 4)
    outcomes = [report.outcome for report in stage.scheduler.finished]
    assert outcomes.count(scheduler.FINISH_OUTCOME_FAILED) == 2
    assert outcomes.count(scheduler.FINISH_OUTCOME_COMPLETED) == 2


async def test_an_input_that_all_workers_lost_is_a_503(stage: Stage) -> None:
    for each in stage.embedders:
        each.status = grpc.StatusCode.UNAVAILABLE
    answered = await embed(stage, "a")
    assert answered.status_code == 503
    assert int(answered.headers["retry-after"]) >= 1
    for each in stage.embedders:
        each.status = None
    assert (await embed(stage, "a")).status_code == 200


async def test_an_input_that_a_worker_refuses_is_not_tried_again(stage: Stage) -> None:
    stage.embedders[0].status = grpc.StatusCode.INVALID_ARGUMENT
    answered = await embed(stage, "a")
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, "input")
    assert not stage.embedders[1].asked


async def test_what_the_tokenizer_refuses_is_the_inputs_fault(stage: Stage) -> None:
    answered = await embed(stage, "refuse")
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, "input")


async def test_a_full_queue_is_a_429(stage: Stage) -> None:
    stage.scheduler.turn_away = scheduler.TurnedAway(
        reason=scheduler.TURNED_AWAY_REASON_QUEUE_FULL, message="Full.", retry_after_ms=1500
    )
    answered = await embed(stage, ["a", "b"])
    assert (answered.status_code, answered.headers["retry-after"]) == (429, "2")


async def test_a_client_that_leaves_ends_what_runs(stage: Stage) -> None:
    for each in stage.embedders:
        each.holds = True
    asking = asyncio.create_task(embed(stage, ["a"] * 50))
    await stage.embedders[0].until(lambda embedder: len(embedder.asked) == AT_ONCE)
    asking.cancel()
    async with asyncio.timeout(5):
        await stage.embedders[0].until(lambda embedder: embedder.cancelled == AT_ONCE)
        await stage.scheduler.until(lambda scheduler: len(scheduler.finished) == AT_ONCE)
    outcomes = {report.outcome for report in stage.scheduler.finished}
    assert outcomes == {scheduler.FINISH_OUTCOME_CANCELLED}
    assert len(stage.embedders[0].asked) == AT_ONCE


async def test_it_is_accounted_for_and_nothing_of_it_is_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with staged(embedders=1) as stage:
        await embed(stage, "the secret of the sea", user="somebody")
        await stage.client.post(DOOR, json={"model": "nobody", "input": "secret"})
        scraped = (await stage.client.get("/metrics")).text
    logged = capsys.readouterr().err
    assert '"endpoint":"embeddings"' in logged
    assert '"prompt_tokens":21' in logged
    assert "secret" not in logged
    assert "somebody" not in logged
    for status in ("200", "404"):
        assert f'requests_total{{endpoint="embeddings",status="{status}"}}' in scraped
    assert f'tokens_total{{kind="prompt",model="{EMBEDDING_MODEL}"}}' in scraped
    assert 'model="nobody"' not in scraped


async def test_with_tenants_a_key_is_needed() -> None:
    tenants = read_tenants(b'{"tenants":[{"name":"acme","keys":["secret"]}]}')
    async with staged(tenants, embedders=1) as stage:
        assert (await embed(stage, "a")).status_code == 401
        key = {"Authorization": "Bearer secret", "X-Request-Id": "mine"}
        right = await stage.client.post(DOOR, content=body("a"), headers=key)
        assert (right.status_code, right.headers["x-request-id"]) == (200, "mine")
        assert stage.scheduler.asked[0].tenant == "acme"
