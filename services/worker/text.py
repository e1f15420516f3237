"""From token ids to text, token by token, and the stop strings in it. Pure.

What is let out depends on the tokens alone, not on how they were grouped: a worker that resumes
a run feeds it what was generated before, and holds back exactly what the first one held back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_REPLACEMENT = "\ufffd"  # how a decoder shows bytes that are no character (yet)
_INVALID_PREFIX = "Invalid prefix encountered"
_SHORTEST_SEED = 6  # prompt tokens; seeding with the whole prompt costs its length


class Decoder:
    """Decodes what comes after a prompt. A character that is not whole yet is held back."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], keep_special: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special = not keep_special
        tail = self._tail(prompt)
        self._stream = DecodeStream(ids=tail, skip_special_tokens=self._skip_special)
        # A stream whose seed ends in half a character gives the seed out with its first text.
        seed = self._text(tail)
        self._given_out = seed if seed.endswith(_REPLACEMENT) else ""

    def step(self, token_id: int) -> str:
        """The text that this token makes certain; often a word, sometimes nothing."""
        text = self._step(token_id)
        if text and self._given_out:
            text = text[_common_length(text, self._given_out) :]
            self._given_out = ""
        return text

    def _step(self, token_id: int) -> str:
        try:
            return self._stream.step(self._tokenizer, token_id) or ""
        # The binding raises bare Exception; its message is all that tells the case apart.
        except Exception as error:
            if not str(error).startswith(_INVALID_PREFIX):
                raise
            # Bytes that can never become characters: begin afresh behind them, as vLLM does.
            self._stream = DecodeStream(skip_special_tokens=self._skip_special)
            return self._stream.step(self._tokenizer, token_id) or ""

    def _tail(self, prompt: Sequence[int]) -> list[int]:
        """The shortest tail that shows text: after no text, a decoder may eat a space."""
        size = _SHORTEST_SEED
        tail = list(prompt[-size:])
        while size < len(prompt) and not self._text(tail).strip(_REPLACEMENT):
            size *= 2
            tail = list(prompt[-size:])
        return tail

    def _text(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=self._skip_special)
        return text


def special_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that a decoder leaves out where they are not kept."""
    added = tokenizer.get_added_tokens_decoder()
    return frozenset(token_id for token_id, token in added.items() if token.special)


def _common_length(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@dataclass(frozen=True, slots=True)
class Stop:
    """The stop strings of a run. `after_tokens` come before any of them counts."""

    texts: tuple[str, ...] = ()
    include: bool = False
    after_tokens: int = 0


class StopMatcher:
    """Finds the stop string that completes first; holds back what may yet become one."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._longest = max(map(len, stop.texts), default=0)
        self._first_letters = frozenset(text[0] for text in stop.texts)
        self._held = ""
        self._tokens = 0

    def feed(self, text: str) -> tuple[str, str]:
        """Take one token's text; return what may go out, and the stop string that matched."""
        self._tokens += 1
        if not self._stop.texts:
            return text, ""
        known = len(self._held)
        self._held += text
        if self._tokens > self._stop.after_tokens:
            end, match = self._first_match(known)
            if match:
                kept = end if self._stop.include else end - len(match)
                return self._held[:kept], match
        return self._let_go(), ""

    def rest(self) -> str:
        """What was held back, when no more text comes."""
        return self._held

    def _first_match(self, known: int) -> tuple[int, str]:
        """The first end of a stop string beyond `known`; of two at one place the longer."""
        ends = []
        for text in self._stop.texts:
            start = self._held.find(text, max(0, known - len(text) + 1))
            if start >= 0:
                ends.append((start + len(text), -len(text), text))
        end, _, match = min(ends, default=(0, 0, ""))
        return end, match

    def _let_go(self) -> str:
        kept_from = self._first_beginning()
        text, self._held = self._held[:kept_from], self._held[kept_from:]
        return text

    def _first_beginning(self) -> int:
        """Where the longest end of the held text starts that a stop string starts with."""
        held = self._held
        for start in range(max(0, len(held) - self._longest + 1), len(held)):
            # Most ends are ruled out by their first letter.
            if held[start] in self._first_letters and self._begins(held[start:]):
                return start
        return len(held)

    def _begins(self, end: str) -> bool:
        return any(text.startswith(end) for text in self._stop.texts)


class TextStream:
    """The text of one choice, from its tokens."""

    def __init__(self, decoder: Decoder, stop: Stop) -> None:
        self._decoder = decoder
        self._matcher = StopMatcher(stop)
        self.decoded = 0
        """Code points so far, those that are held back included."""

    def feed(self, token_id: int) -> tuple[str, str]:
        """Take one token; return the text that may go out, and the stop string that matched."""
        text = self._decoder.step(token_id)
        self.decoded += len(text)
        return self._matcher.feed(text)

    def rest(self) -> str:
        """What was held back, when no more tokens come. Half a character stays out."""
        return self._matcher.rest()


def _shown_bytes() -> dict[str, int]:
    """How byte-level vocabularies write bytes. Source: GPT-2's `bytes_to_unicode`."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    shown = {chr(byte): byte for byte in plain}
    return shown | {chr(256 + place): byte for place, byte in enumerate(others)}


class TokenBytes:
    """The bytes of single tokens, which may be part of a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.get_added_tokens_decoder()
        self._byte_of = _shown_bytes()

    def of(self, token_id: int) -> bytes:
        """The token's own bytes; none for a row of the model that no token has."""
        piece = self._tokenizer.id_to_token(token_id)
        if piece is None:
            return b""
        if token_id in self._added:
            return str(piece).encode()
        return self._read(str(piece))

    def _read(self, piece: str) -> bytes:
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        if all(each in self._byte_of for each in piece):
            return bytes(self._byte_of[each] for each in piece)
        return piece.replace("▁", " ").encode()
