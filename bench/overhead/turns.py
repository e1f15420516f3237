"""A turn of a long conversation in the tokenizer alone, with what it kept of the turns before.

The last turn of each conversation is encoded over gRPC as the edge does it, by `EncodeBatches`:
after the turns before it, by a tokenizer that never saw them, and by one that keeps nothing.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from random import Random
from typing import Self

import grpc

from bench.overhead import usage
from bench.overhead.children import HOST, free_port, started
from bench.overhead.gateway import Place
from bench.overhead.measuring import Labelled
from bench.overhead.workload import MODEL, words
from headway.tokenizer.v1 import tokenizer_pb2 as pb
from headway.tokenizer.v1 import tokenizer_pb2_grpc as rpc
from services.serving import CHANNEL_OPTIONS

READY_S = 60.0
Talk = Sequence[pb.EncodeRequest]
"""The prompts of its turns, oldest first."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A way to have a conversation's last turn encoded."""

    sees_earlier_turns: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


KEPT, COLD, AFRESH = "turns before kept", "first seen", "nothing kept"
TOKENIZERS = {
    KEPT: Tokenizer(sees_earlier_turns=True),
    COLD: Tokenizer(),
    AFRESH: Tokenizer(settings={"TOKENIZER_SEGMENT_CACHE_BYTES": "0"}),
}


@dataclass(frozen=True, slots=True)
class Turns:
    """Conversations of so many turns, the last prompt with so many tokens."""

    turns: int
    tokens: int
    conversations: int

    def __call__(self, subject: str, place: Place) -> Iterator[Labelled]:
        """The tokenizer's CPU for a prompt of the last turn."""
        tokenizer, address = TOKENIZERS[subject], f"{HOST}:{free_port()}"
        env = {
            "TOKENIZER_MODELS": f"{MODEL}={place.tools.model}",
            "TOKENIZER_LISTEN": address,
            **tokenizer.settings,
        }
        talks = list(self._talks())
        command = [sys.executable, "-m", "services.tokenizer"]
        with (
            started(command, place.home / "tokenizer.log", env) as child,
            grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
        ):
            stub = rpc.TokenizerServiceStub(channel)
            stub.ListModels(pb.ListModelsRequest(), wait_for_ready=True, timeout=READY_S)
            if tokenizer.sees_earlier_turns:
                _encode(stub, (prompt for talk in talks for prompt in talk[:-1]))
            before_s = usage.cpu_s([child.pid])
            tokens = _encode(stub, (talk[-1] for talk in talks))
            spent_s = usage.cpu_s([child.pid]) - before_s
        prompts = self.conversations
        yield "", {"tokenizer_ms_a_prompt": spent_s / prompts * 1e3, "tokens": tokens / prompts}

    def scaled(self, part: float) -> Self:
        """Fewer conversations."""
        return replace(self, conversations=max(1, round(part * self.conversations)))

    def _talks(self) -> Iterator[Talk]:
        chance = Random(1)
        # What the user says and an answer for each turn, but the last, which has no answer yet.
        length = self.tokens // (2 * self.turns - 1)
        for _ in range(self.conversations):
            messages = [
                pb.Message(role=role, content=words(length, chance))
                for _ in range(self.turns)
                for role in ("user", "assistant")
            ]
            yield [_prompt(messages[: 2 * turn + 1]) for turn in range(self.turns)]


def _prompt(messages: Sequence[pb.Message]) -> pb.EncodeRequest:
    return pb.EncodeRequest(model=MODEL, chat=pb.Chat(messages=messages))


def _encode(stub: rpc.TokenizerServiceStub, prompts: Iterable[pb.EncodeRequest]) -> int:
    """One batch after the other, as from an edge with a single caller; the tokens of all."""
    sent: SimpleQueue[pb.EncodeBatchesRequest | None] = SimpleQueue()
    answers = stub.EncodeBatches(iter(sent.get, None))
    tokens = 0
    for number, prompt in enumerate(prompts, 1):
        sent.put(pb.EncodeBatchesRequest(batch=number, items=[prompt]))
        [result] = next(answers).results
        assert result.HasField("encoded"), result.refused.message
        tokens += len(result.encoded.token_ids) // 4
    sent.put(None)
    return tokens
