"""The simulated engine's text: each token a function of all tokens before it. Pure."""

from collections.abc import Mapping, Sequence
from math import sqrt
from struct import Struct

from xxhash import xxh3_64, xxh3_64_digest, xxh3_64_intdigest

from services.blocks import TOKEN_BYTES, block_hash, chain_root

_TOKEN = Struct("<I")
_WORD_STARTS = "Ġ▁"  # how byte-level and SentencePiece vocabularies write a leading space
_MOST_WORDS = 4096


def word_ids(vocabulary: Mapping[str, int]) -> tuple[int, ...]:
    """Tokens that read as plain lower-case English words, by id; at most some thousand.

    Raises ValueError for a vocabulary without any.
    """
    words = sorted(
        token_id
        for piece, token_id in vocabulary.items()
        if piece[:1] in _WORD_STARTS and _is_word(piece[1:])
    )
    if not words:
        raise ValueError("the tokenizer has no token that is an English word")
    return tuple(words[:_MOST_WORDS])


def _is_word(text: str) -> bool:
    return len(text) > 1 and text.isascii() and text.isalpha() and text.islower()


class WordTokens:
    """A run's tokens. The same tokens, `variant` and words give the same next token anywhere.

    `variant` sets choices and seeds apart; a run that another worker began and this one
    resumes has the same tokens and the same variant, so its text goes on as it would have.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        block_size: int,
        words: Sequence[int],
        variant: bytes = b"",
        cache_salt: str = "",
        adapter: str = "",
    ) -> None:
        self.cache_salt = cache_salt
        self.adapter = adapter
        self._bytes = bytearray(b"".join(map(_TOKEN.pack, tokens)))
        self._step = block_size * TOKEN_BYTES
        self._words = words
        self._root = chain_root("sim", adapter, cache_salt)
        self._hashes: list[int] = []
        seed = int.from_bytes(xxh3_64_digest(variant), "big")
        self._hasher = xxh3_64(bytes(self._bytes), seed=seed)

    def __len__(self) -> int:
        return len(self._bytes) // TOKEN_BYTES

    def add_next(self) -> int:
        """Choose the next token, add it and return it."""
        token = self._words[self._hasher.intdigest() % len(self._words)]
        packed = _TOKEN.pack(token)
        self._hasher.update(packed)
        self._bytes += packed
        return token

    def block_hashes(self, full_blocks: int) -> Sequence[int]:
        """The chained hashes of the first blocks; at least `full_blocks` of them."""
        for index in range(len(self._hashes), full_blocks):
            parent = self.block_parent(index)
            self._hashes.append(block_hash(parent, self._block(index, index + 1)))
        return self._hashes

    def block_parent(self, index: int) -> int:
        """The hash before a block's own; the root for a prompt's first block."""
        return self._hashes[index - 1] if index else self._root

    def block_tokens(self, first: int, last: int) -> list[int]:
        """The tokens of blocks `first` … `last - 1`."""
        return [token for (token,) in _TOKEN.iter_unpack(self._block(first, last))]

    def _block(self, first: int, last: int) -> bytes:
        return bytes(self._bytes[first * self._step : last * self._step])


def embedding(tokens: Sequence[int], dimensions: int = 384) -> list[float]:
    """A vector of length 1 that depends on all tokens."""
    data = b"".join(map(_TOKEN.pack, tokens))
    values = [xxh3_64_intdigest(data, seed=place) / 2**63 - 1 for place in range(dimensions)]
    length = sqrt(sum(value * value for value in values))
    return [value / length for value in values]
