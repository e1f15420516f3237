"""Rerank and score: what may be asked, and what is answered between scripted services."""

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.apis.openai_scoring import RerankAsk, ScoreAsk, parse_rerank, parse_score
from services.edge.apis.refusals import Invalid
from services.edge.similarity import best, cosines
from tests.edge.conftest import Stage, staged
from tests.edge.scripted import CONTEXT, EMBEDDING_MODEL, MODEL


def body(**more: Any) -> bytes:
    return json.dumps({"model": EMBEDDING_MODEL, **more}).encode()


@pytest.mark.parametrize(
    ("content", "param"),
    [
        pytest.param(body(documents=["a"]), "query", id="no-query"),
        pytest.param(body(query="", documents=["a"]), "query", id="an-empty-query"),
        pytest.param(body(query="a"), "documents", id="no-documents"),
        pytest.param(body(query="a", documents=[]), "documents", id="none"),
        pytest.param(body(query="a", documents=[""]), "documents", id="an-empty-one"),
        pytest.param(body(query="a", documents=["b"] * 2049), "documents", id="too-many"),
        pytest.param(body(query="a", documents=["b"], top_n=-1), "top_n", id="fewer-than-none"),
        pytest.param(
            body(query="a", documents=["b"], max_chunks_per_doc=1), "max_chunks_per_doc", id="other"
        ),
        pytest.param(
            body(query="a", documents=[{"text": "b", "title": "c"}]), "documents", id="a-title"
        ),
    ],
)
def test_bad_rankings_name_the_parameter(content: bytes, param: str) -> None:
    invalid = parse_rerank(content)
    assert isinstance(invalid, Invalid)
    assert (invalid.param or "").startswith(param)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        pytest.param({}, "text_1", id="nothing"),
        pytest.param({"text_1": "a"}, "text_1", id="one-side"),
        pytest.param({"text_1": "a", "documents": "b"}, "text_1", id="of-both-kinds"),
        pytest.param(
            {"text_1": "a", "text_2": "b", "queries": "c"}, "text_1", id="more-than-two-sides"
        ),
        pytest.param({"text_1": ["a", "b"], "text_2": ["c"]}, "text_1", id="two-and-one"),
        pytest.param({"queries": ["a"] * 2, "documents": ["b"] * 3}, "queries", id="two-and-three"),
        pytest.param({"queries": "", "documents": "b"}, "queries", id="empty"),
        pytest.param({"text_1": [], "text_2": "b"}, "text_1", id="none"),
        pytest.param({"text_1": "a", "text_2": "b", "truncate": 1}, "truncate", id="unknown"),
    ],
)
def test_bad_scores_name_the_parameter(asked: dict[str, Any], param: str) -> None:
    invalid = parse_score(body(**asked))
    assert isinstance(invalid, Invalid)
    assert invalid.param == param


def test_what_is_compared() -> None:
    ranked = parse_rerank(body(query="q", documents=["a", {"text": "b"}]))
    assert isinstance(ranked, RerankAsk)
    assert [each.prompt for each in ranked.inputs] == ["q", "a", "b"]
    scored = parse_score(body(queries="q", documents=["a", "b"]))
    assert isinstance(scored, ScoreAsk)
    assert [each.where for each in scored.seconds] == ["documents[0]", "documents[1]"]


vectors = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)


@given(vectors, vectors, st.floats(0.5, 100))
def test_a_cosine_knows_no_length_and_no_order(
    one: list[float], other: list[float], scale: float
) -> None:
    [there, back, longer, itself] = cosines(
        [(one, other), (other, one), ([scale * x for x in one], other), (one, one)]
    )
    assert (there, there) == pytest.approx((back, longer))
    assert -1 <= there <= 1
    assert itself == pytest.approx(1 if math.hypot(*one) else 0)


@pytest.mark.parametrize(
    ("scores", "limit", "places"),
    [
        pytest.param([0.1, 0.9, 0.5], 3, [1, 2, 0], id="highest-first"),
        pytest.param([0.1, 0.9, 0.5], 2, [1, 2], id="as-many-as-wanted"),
        pytest.param([0.5, 0.5, 0.9], 9, [2, 0, 1], id="the-earlier-of-equal-ones"),
        pytest.param([], 3, [], id="none"),
    ],
)
def test_the_best(scores: list[float], limit: int, places: list[int]) -> None:
    assert best(scores, limit) == places


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """An edge with two workers that embed: a text is its length and its first character."""
    async with staged(embedders=2) as built:
        yield built


RANKING = {"query": "bb", "documents": ["z" * 150, {"text": "bb"}, "b" * 20]}


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
async def test_the_likest_documents_come_first(stage: Stage, path: str) -> None:
    answered = (await stage.client.post(path, content=body(**RANKING, top_n=2))).json()
    assert [each["index"] for each in answered["results"]] == [1, 2]
    assert answered["results"][0]["document"] == {"text": "bb"}
    assert answered["results"][0]["relevance_score"] == pytest.approx(1)
    assert answered["usage"] == {"prompt_tokens": 174, "total_tokens": 174}
    assert answered["model"] == EMBEDDING_MODEL
    assert answered["id"].startswith("rerank-")


async def test_documents_can_be_left_out(stage: Stage) -> None:
    asked = body(**RANKING, return_documents=False)
    results = (await stage.client.post("/rerank", content=asked)).json()["results"]
    assert [set(each) for each in results] == [{"index", "relevance_score"}] * 3


async def test_many_documents_are_ranked(stage: Stage) -> None:
    documents = ["b" * (number % 100 + 1) for number in range(300)]
    asked = body(query="bb", documents=documents, top_n=3)
    results = (await stage.client.post("/rerank", content=asked)).json()["results"]
    assert [each["index"] for each in results] == [1, 101, 201]


@pytest.mark.parametrize(
    ("asked", "alike"),
    [
        pytest.param({"text_1": "a", "text_2": "a"}, [True], id="one-and-one"),
        pytest.param({"text_1": "a", "text_2": ["a", "z" * 90]}, [True, False], id="one-and-many"),
        pytest.param(
            {"queries": ["a", "z" * 90], "documents": ["a", "b"]}, [True, False], id="many-and-many"
        ),
        pytest.param({"data_1": "a", "data_2": "a"}, [True], id="as-data"),
        pytest.param({"queries": "a", "items": ["a", "z" * 90]}, [True, False], id="as-items"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/score", "/score"])
async def test_pairs_are_scored_in_order(
    stage: Stage, path: str, asked: dict[str, Any], alike: list[bool]
) -> None:
    answered = (await stage.client.post(path, content=body(**asked))).json()
    assert answered["object"] == "list"
    assert [each["index"] for each in answered["data"]] == list(range(len(alike)))
    assert [each["score"] > 0.999 for each in answered["data"]] == alike
    assert {each["object"] for each in answered["data"]} == {"score"}


async def test_a_text_over_the_context_is_named(stage: Stage) -> None:
    asked = body(query="a", documents=["b", "c" * (CONTEXT + 1)])
    error = (await stage.client.post("/rerank", content=asked)).json()["error"]
    assert (error["param"], error["code"]) == ("documents", "context_length_exceeded")
    assert "documents[1]" in error["message"]


async def test_a_lost_worker_and_a_wrong_model_are_as_for_embeddings(stage: Stage) -> None:
    stage.embedders[0].status = grpc.StatusCode.UNAVAILABLE
    assert (await stage.client.post("/rerank", content=body(**RANKING))).status_code == 200
    wrong = await stage.client.post("/score", json={"model": MODEL, "text_1": "a", "text_2": "b"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (404, "model")
    scraped = (await stage.client.get("/metrics")).text
    assert 'requests_total{endpoint="rerank",status="200"}' in scraped
