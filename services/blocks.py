"""The hash chain that names prompt prefixes. Pure.

The format is Headway's own and is fixed in docs/formats.md: tokenizer, workers and scheduler
have to agree on it to the bit. A hash names its block *and all blocks before it*, so equal
hashes mean equal prefixes.
"""

from collections.abc import Iterator
from struct import Struct, iter_unpack

from xxhash import xxh3_64_digest, xxh3_64_intdigest

TOKEN_BYTES = 4  # a token id on the wire: unsigned, little-endian
HASH_BYTES = 8  # a block hash on the wire: unsigned, little-endian

_HASH = Struct("<Q")


def chain_root(model: str, adapter: str = "", cache_salt: str = "") -> int:
    """The parent of a prompt's first block: prompts of different roots share no cache."""
    return xxh3_64_intdigest(_part(model) + _part(adapter) + _part(cache_salt))


def _part(name: str) -> bytes:
    """A name after its length, so that no two triples of names give the same bytes."""
    text = name.encode()
    return len(text).to_bytes(4, "little") + text


def block_hash(parent: int, block: bytes) -> int:
    """The hash of one block: `block` holds its token ids, little-endian, after `parent`'s."""
    return xxh3_64_intdigest(_HASH.pack(parent) + block)


def block_hashes(tokens: bytes, block_size: int, root: int) -> bytes:
    """Hash the full blocks of a prompt.

    `tokens` holds 4 bytes a token, little-endian; the result 8 bytes a full block of
    `block_size` tokens, little-endian. A last block that is not full has no hash.
    """
    block_bytes = block_size * TOKEN_BYTES
    full = tokens[: len(tokens) - len(tokens) % block_bytes]
    parent = _HASH.pack(root)
    hashes = []
    for (block,) in iter_unpack(f"{block_bytes}s", full):
        # A digest is big-endian by xxHash's canonical form; the wire is little-endian.
        parent = xxh3_64_digest(parent + block)[::-1]
        hashes.append(parent)
    return b"".join(hashes)


def read_hashes(hashes: bytes) -> Iterator[int]:
    """The hashes in their wire form, one by one."""
    return (value for (value,) in _HASH.iter_unpack(hashes))
