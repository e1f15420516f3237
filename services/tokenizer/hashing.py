"""Block hashes of prompts, taken from those of earlier prompts as far as they begin alike. Pure.

A hash follows from its parent and its block's tokens alone. So what was computed for the same
parent and the same tokens is what would be computed again, and no more than that is looked up.
"""

from services.blocks import HASH_BYTES, TOKEN_BYTES, block_hashes

STRETCH_BLOCKS = 64
"""Hashed or looked up together. More would leave more to hash anew behind the last whole one."""

# What Python adds to the tokens and hashes of a stretch.
OVERHEAD_BYTES = 256


class HashChain:
    """Hashes the prompts of one model; `cache_bytes` bounds what it keeps of them.

    Two dictionaries of bytes, the older of which is dropped when the younger is full: a cache of
    many objects would be gone through by every full garbage collection.
    """

    def __init__(self, block_size: int, cache_bytes: int) -> None:
        self.block_size = block_size
        self._stretch_bytes = STRETCH_BLOCKS * block_size * TOKEN_BYTES
        kept_bytes = self._stretch_bytes + STRETCH_BLOCKS * HASH_BYTES + OVERHEAD_BYTES
        self._limit = cache_bytes // kept_bytes // 2
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def hash(self, tokens: bytes, root: int) -> bytes:
        """The hashes of the full blocks, the same as `block_hashes` gives."""
        hashes = []
        parent = root.to_bytes(HASH_BYTES, "little")
        rest = len(tokens) - len(tokens) % self._stretch_bytes if self._limit else 0
        for start in range(0, rest, self._stretch_bytes):
            hashes.append(self._known(parent, tokens[start : start + self._stretch_bytes]))
            parent = hashes[-1][-HASH_BYTES:]
        hashes.append(self._hashed(parent, tokens[rest:]))
        return b"".join(hashes)

    def _known(self, parent: bytes, stretch: bytes) -> bytes:
        key = parent + stretch
        hashes = self._young.get(key)
        if hashes is None:
            hashes = self._old.get(key) or self._hashed(parent, stretch)
            if len(self._young) >= self._limit:
                self._young, self._old = {}, self._young
            self._young[key] = hashes
        return hashes

    def _hashed(self, parent: bytes, tokens: bytes) -> bytes:
        return block_hashes(tokens, self.block_size, int.from_bytes(parent, "little"))
