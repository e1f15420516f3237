"""Chats of so many tokens, by a seed: English prose of Python's own documentation. Pure."""

from pydoc_data.topics import topics
from random import Random

from headway.tokenizer.v1 import tokenizer_pb2 as pb

SHORT, LONG = 300, 6000
"""Tokens of a prompt of one message."""
TOKENS_A_WORD = 1.55
"""Of SmolLM2, on average."""
TURNS = 8
TURN_TOKENS = 8000 // (2 * TURNS - 1)
"""Of each message: at its last turn a conversation has 8,000 tokens, less the answer to come."""


class Prompts:
    """Texts that have not been seen before."""

    def __init__(self, model: str, seed: int) -> None:
        self._model = model
        self._chance = Random(seed)
        self._words = " ".join(topics[name] for name in sorted(topics)).split()

    def single(self, tokens: int) -> pb.EncodeRequest:
        """One message of a user."""
        return self._chat([self._text(tokens)])

    def conversation(self) -> list[pb.EncodeRequest]:
        """The prompt of each turn; each begins with the one before."""
        texts = [self._text(TURN_TOKENS) for _ in range(2 * TURNS - 1)]
        return [self._chat(texts[: 2 * turn + 1]) for turn in range(TURNS)]

    def _chat(self, texts: list[str]) -> pb.EncodeRequest:
        messages = [
            pb.Message(role="assistant" if number % 2 else "user", content=text)
            for number, text in enumerate(texts)
        ]
        return pb.EncodeRequest(model=self._model, chat=pb.Chat(messages=messages))

    def _text(self, tokens: int) -> str:
        count = int(tokens / TOKENS_A_WORD)
        start = self._chance.randrange(len(self._words) - count)
        number = self._chance.getrandbits(32)  # so that no two texts are the same
        return f"{number} {' '.join(self._words[start : start + count])}"
