"""The doors for rerank and score: how alike texts are, by their embeddings.

As vLLM does it for a model that embeds: the score is the cosine of the two vectors. A model made
for ranking would read both texts together; there is no pool of such models.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import msgspec

from services.edge.apis.openai_embeddings import Input
from services.edge.apis.openai_scoring import RerankAsk, ScoreAsk
from services.edge.apis.refusals import Refusal
from services.edge.embedding import Embedded, Embedding
from services.edge.inquiry import Caller, Reply
from services.edge.relay import Hops
from services.edge.similarity import Vector, best, cosines

# So many pairs take a millisecond; more are compared in a thread, beside the streams.
PAIRS_ON_LOOP = 64


@dataclass(frozen=True, slots=True)
class Scoring:
    """Answers `POST /v1/rerank` and `POST /v1/score`."""

    hops: Hops

    async def rerank(self, ask: RerankAsk, caller: Caller) -> Reply | Refusal:
        """The documents that are most like the query, the likest first."""
        embedded = await self._embed(ask, ask.inputs, caller)
        if not isinstance(embedded, list):
            return embedded
        query, *documents = [each.vector for each in embedded]
        scores = await _compared(list(zip(repeat(query), documents, strict=False)))
        results = [_result(ask, place, scores[place]) for place in best(scores, ask.limit)]
        return _reply(f"rerank-{caller.request_id}", ask.model, embedded, {"results": results})

    async def score(self, ask: ScoreAsk, caller: Caller) -> Reply | Refusal:
        """How alike the texts of each pair are, in the pairs' order."""
        embedded = await self._embed(ask, [*ask.firsts, *ask.seconds], caller)
        if not isinstance(embedded, list):
            return embedded
        vectors = [each.vector for each in embedded]
        firsts, seconds = vectors[: len(ask.firsts)], vectors[len(ask.firsts) :]
        if len(firsts) == 1:
            firsts *= len(seconds)
        scores = await _compared(list(zip(firsts, seconds, strict=True)))
        data = [
            {"object": "score", "index": index, "score": score}
            for index, score in enumerate(scores)
        ]
        answer = {"object": "list", "data": data}
        return _reply(f"score-{caller.request_id}", ask.model, embedded, answer)

    async def _embed(
        self, ask: RerankAsk | ScoreAsk, inputs: Sequence[Input], caller: Caller
    ) -> list[Embedded] | Refusal:
        embedding = Embedding(self.hops, caller, ask.model, ask.body.priority or 0)
        return embedding.misfit() or await embedding.embed(inputs)


async def _compared(pairs: list[tuple[Vector, Vector]]) -> list[float]:
    if len(pairs) > PAIRS_ON_LOOP:
        return await asyncio.to_thread(cosines, pairs)
    return cosines(pairs)


def _result(ask: RerankAsk, place: int, score: float) -> dict[str, Any]:
    result: dict[str, Any] = {"index": place, "relevance_score": score}
    if ask.body.return_documents is not False:
        result["document"] = {"text": ask.texts[place]}
    return result


def _reply(
    answer_id: str, model: str, embedded: Sequence[Embedded], answer: dict[str, Any]
) -> Reply:
    tokens = sum(each.tokens for each in embedded)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = {"id": answer_id, **answer, "model": model, "usage": usage}
    return Reply(msgspec.json.encode(body), tokens)
