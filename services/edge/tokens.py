"""The doors for token ids: text to ids and back."""

from array import array
from dataclasses import dataclass, replace

import msgspec

from headway.tokenizer.v1 import tokenizer_pb2 as tokenizer
from services.edge import wire
from services.edge.apis.openai_tokens import DetokenizeBody, TokenizeAsk
from services.edge.apis.refusals import Invalid, Refusal, UnknownModel
from services.edge.encoding import Encoded
from services.edge.inquiry import Caller, Reply
from services.edge.relay import Hops
from services.edge.workers import Pool, Served


@dataclass(frozen=True, slots=True)
class Tokens:
    """Answers `POST /tokenize` and `POST /detokenize`, for models of every kind."""

    hops: Hops

    async def tokenize(self, ask: TokenizeAsk, caller: Caller) -> Reply | Refusal:
        """The ids of a text or of a rendered conversation."""
        pool = self._pool(ask.model)
        if not isinstance(pool, Pool):
            return pool
        encoded = await self.hops.encoders.encode(self._encode_request(ask, caller))
        if isinstance(encoded, Invalid) and ask.body.prompt == "":
            ids: list[int] = []  # no prompt for a worker, but a text like others
        elif isinstance(encoded, Encoded):
            ids = array("I", encoded.token_ids).tolist()
        else:
            return encoded
        answer = {
            "count": len(ids),
            "max_model_len": pool.max_model_tokens,
            "tokens": ids,
            "token_strs": None,
        }
        if ask.body.return_token_strs:
            texts = await self.hops.encoders.token_texts(self._vocabulary(ask.model), ids)
            if not isinstance(texts, list):
                return texts
            answer["token_strs"] = texts
        return Reply(msgspec.json.encode(answer), len(ids))

    async def detokenize(self, asked: DetokenizeBody, caller: Caller) -> Reply | Refusal:
        """The text of ids, special tokens included."""
        pool = self._pool(asked.model)
        if not isinstance(pool, Pool):
            return pool
        text = await self.hops.encoders.decode(self._vocabulary(asked.model), asked.tokens)
        if isinstance(text, Invalid):
            return replace(text, param="tokens")
        if not isinstance(text, str):
            return text
        return Reply(msgspec.json.encode({"prompt": text}), len(asked.tokens))

    def _pool(self, model: str) -> Pool | UnknownModel:
        pools = self.hops.fleet.pools
        return pools.get(model) or UnknownModel(model, tuple(sorted(pools)))

    def _vocabulary(self, model: str) -> str:
        return self.hops.fleet.served(model).model

    def _encode_request(self, ask: TokenizeAsk, caller: Caller) -> tokenizer.EncodeRequest:
        if ask.chat is not None:
            served = self.hops.fleet.served(ask.model)
            request = wire.encode_chat(ask.chat, served, caller.traceparent)
        else:
            vocabulary = Served(self._vocabulary(ask.model))
            request = wire.encode_prompt(ask.body.prompt or "", vocabulary, caller.traceparent)
        if ask.body.add_special_tokens is not None:
            request.add_special_tokens = ask.body.add_special_tokens
        return request
