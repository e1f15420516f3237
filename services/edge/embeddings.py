"""The door for embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from services.edge.apis.openai_embeddings import EmbeddingAsk, wrong_dimensions
from services.edge.apis.refusals import Refusal
from services.edge.embedding import Embedding
from services.edge.inquiry import Caller, Reply
from services.edge.relay import Hops
from services.edge.vectors import shortened, written

_ENTRY = b'{"object":"embedding","index":%d,"embedding":%b}'


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Answers `POST /v1/embeddings`. `shortened` has models whose vectors may be cut, and where."""

    hops: Hops
    shortened: Mapping[str, frozenset[int]]

    async def answer(self, ask: EmbeddingAsk, caller: Caller) -> Reply | Refusal:
        """The vectors of all inputs, in their order."""
        asked = ask.body
        embedding = Embedding(self.hops, caller, asked.model, asked.priority or 0)
        refusal = embedding.misfit() or wrong_dimensions(asked, self.shortened)
        if refusal is not None:
            return refusal
        embedded = await embedding.embed(ask.inputs)
        if not isinstance(embedded, list):
            return embedded
        form = asked.encoding_format or "float"
        vectors = [written(shortened(each.vector, asked.dimensions), form) for each in embedded]
        entries = [_ENTRY % (index, vector) for index, vector in enumerate(vectors)]
        tokens = sum(each.tokens for each in embedded)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        body = b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (
            b",".join(entries),
            msgspec.json.encode(asked.model),
            msgspec.json.encode(usage),
        )
        return Reply(body, tokens)
