"""The libraries that encode text, and the choice between them. Pure.

fastokens is an order of magnitude faster and is used for a model only after it gave the ids
that tokenizers gives, on every probe.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from struct import pack
from typing import Protocol

from fastokens._native import Tokenizer as FastTokenizer  # type: ignore[import-untyped]
from tokenizers import Tokenizer

from services.tokenizer.probes import Probe


class Encoder(Protocol):
    """Turns text into token ids, four bytes each, little-endian."""

    @property
    def name(self) -> str:
        """The library's name."""
        ...

    @property
    def slowness(self) -> int:
        """How many times longer than fastokens it takes, about."""
        ...

    def encode(self, text: str, add_special_tokens: bool) -> bytes:
        """The ids of one text. Long texts leave other threads running."""
        ...

    def cached_bytes(self) -> int:
        """The size of what is kept from earlier texts."""
        ...


class ReferenceEncoder:
    """Hugging Face tokenizers: it defines the ids."""

    name = "tokenizers"
    slowness = 16

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, add_special_tokens: bool) -> bytes:
        # The plain `encode` holds the interpreter's lock all the while; this one does not.
        [encoding] = self._tokenizer.encode_batch_fast(
            [text], add_special_tokens=add_special_tokens
        )
        return pack(f"<{len(encoding)}I", *encoding.ids)

    def cached_bytes(self) -> int:
        return 0


class FastEncoder:
    """fastokens, with its cache of the segments between special tokens."""

    name = "fastokens"
    slowness = 1

    def __init__(self, tokenizer: FastTokenizer, reference: ReferenceEncoder) -> None:
        self._tokenizer = tokenizer
        self._reference = reference

    def encode(self, text: str, add_special_tokens: bool) -> bytes:
        try:
            ids: bytes
            ids, _ = self._tokenizer.encode_batch_flat(
                [text], add_special_tokens=add_special_tokens
            )
        except ValueError:
            # Its regular expressions give up on some hostile texts.
            return self._reference.encode(text, add_special_tokens)
        return ids

    def cached_bytes(self) -> int:
        stats = self._tokenizer.segment_cache_stats()
        return stats["bytes"] if stats else 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The encoder for a model; `why_not_fast` is empty when it is fastokens."""

    encoder: Encoder
    why_not_fast: str = ""


def choose_encoder(tokenizer: Tokenizer, cache_bytes: int, probes: Iterable[Probe]) -> Choice:
    """fastokens where it proves identical, else tokenizers."""
    reference = ReferenceEncoder(tokenizer)
    try:
        fast = FastTokenizer.from_json_str(tokenizer.to_str())
    except ValueError as error:
        return Choice(reference, f"fastokens cannot read it: {error}")
    fast.enable_segment_cache(cache_bytes)
    candidate = FastEncoder(fast, reference)
    differing = first_difference(candidate, reference, probes)
    if differing:
        return Choice(reference, f"fastokens gave other ids on the probe {differing!r}")
    return Choice(candidate)


def first_difference(candidate: Encoder, reference: Encoder, probes: Iterable[Probe]) -> str | None:
    """The label of the first probe on which the two disagree; None when they never do."""
    for probe in probes:
        for add_special_tokens in (True, False):
            expected = reference.encode(probe.text, add_special_tokens)
            # Twice: the second time may come from a cache.
            for _ in range(2):
                if candidate.encode(probe.text, add_special_tokens) != expected:
                    return probe.label
    return None
