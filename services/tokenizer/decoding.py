"""What a decoder leaves behind when the ids end in the middle of a character. Pure."""

import codecs
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"
LONGEST_CHARACTER = 4  # bytes, in UTF-8


def whole_characters(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> str:
    """`text`, decoded from `ids`, less the part of a character at its end.

    A replacement character that the text really ends with, or bytes that no further ones
    could complete, stay.
    """
    if not text.endswith(REPLACEMENT):
        return text
    byte_level = "ByteLevel" in repr(tokenizer.decoder)
    bytes_of = _byte_level if byte_level else _byte_fallback
    cut = _cut_bytes(tokenizer, ids[-LONGEST_CHARACTER:], bytes_of)
    if cut == 0:
        return text
    if byte_level:
        return text[:-1]  # its decoder writes one replacement for all bytes of the part
    # Byte fallback: a token a byte, and one bad byte spoils the whole run.
    return tokenizer.decode(ids[:-cut], skip_special_tokens=False)


def _cut_bytes(tokenizer: Tokenizer, ids: Sequence[int], bytes_of: Callable[[str], bytes]) -> int:
    utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
    tokens = (tokenizer.id_to_token(token_id) for token_id in ids)
    utf8.decode(b"".join(bytes_of(token) for token in tokens if token is not None))
    unfinished, _ = utf8.getstate()
    return len(unfinished)


def _byte_fallback(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.encode()


def _byte_level(token: str) -> bytes:
    if all(character in _BYTES for character in token):
        return bytes(_BYTES[character] for character in token)
    return token.encode()


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the rest follow from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + place): byte for place, byte in enumerate(rest)
    }


_BYTES = _byte_level_alphabet()
