"""Rerank and score on a real embedding worker."""

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.vllm

QUERY = "How large is the ocean?"
DOCUMENTS = ["Tax forms are due on Monday.", "The sea is very wide and deep.", "Cats like fish."]


def post(client: httpx.Client, path: str, **asked: Any) -> Any:
    response = client.post(path, json={"model": "minilm", **asked})
    assert response.status_code == 200, response.text
    return response.json()


def test_the_document_that_answers_comes_first(client: httpx.Client) -> None:
    ranked = post(client, "/v1/rerank", query=QUERY, documents=DOCUMENTS)
    assert ranked["results"][0]["index"] == 1
    assert ranked["results"][0]["document"]["text"] == DOCUMENTS[1]
    scores = [each["relevance_score"] for each in ranked["results"]]
    assert scores == sorted(scores, reverse=True)


def test_a_score_is_the_cosine_that_rerank_and_the_embeddings_give(client: httpx.Client) -> None:
    scored = post(client, "/v1/score", text_1=QUERY, text_2=DOCUMENTS)
    ranked = post(client, "/v1/rerank", query=QUERY, documents=DOCUMENTS)
    by_place = {each["index"]: each["relevance_score"] for each in ranked["results"]}
    embedded = post(client, "/v1/embeddings", input=[QUERY, *DOCUMENTS])
    query, *documents = [each["embedding"] for each in embedded["data"]]
    for place, document in enumerate(documents):
        cosine = sum(x * y for x, y in zip(query, document, strict=True))
        score = scored["data"][place]["score"]
        assert (score, score) == pytest.approx((cosine, by_place[place]), abs=1e-4)
    assert scored["usage"] == ranked["usage"] == embedded["usage"]


def test_a_model_that_generates_does_not_rank(client: httpx.Client) -> None:
    asked = {"model": "smollm2", "query": QUERY, "documents": DOCUMENTS}
    response = client.post("/v1/rerank", json=asked)
    assert (response.status_code, response.json()["error"]["param"]) == (404, "model")
