"""The texts on which an encoder proves itself. Pure."""

# ruff: noqa: RUF001 -- characters that look like others are the point

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

MARKED_TOKENS = 200  # of a model's added tokens, so many are probed
RANDOM_TEXTS = 120
RANDOM_LENGTH = 160


@dataclass(frozen=True, slots=True)
class Probe:
    """A text, and a name for it in the log."""

    label: str
    text: str


_CODE = '''def block_hash(parent: int, block: bytes) -> int:
\t"""Names a block."""
    return xxh3_64_intdigest(_HASH.pack(parent) + block)  # 0x9E3779B9

if (a&&b||!c) { return a[i]?.b ?? "x\\n" }; SELECT * FROM t WHERE id=1'''

_TEXTS = {
    "empty": "",
    "one space": " ",
    "one letter": "a",
    "english": "It's what we'd said: they'll've gone, I'm sure. DON'T! you're y'all'd",
    "code": _CODE,
    "json": '{"a": [1, 2.50, -3e10, null, true], "ключ": "值\\u00e9"}',
    "numbers": "1 12 123 1234 12345 1,234,567.89 0x7f ½ ² ٣ 三 Ⅷ 3.14159265358979",
    "accents": "naïve café façade Ångström e\u0301 n\u0303o\u0308 ẛ̣ ﬁ ﬀ ﷺ Ǆ İi ıI ß ẞ",
    "cyrillic and greek": "Привет, мир! Ёлки. Γειά σου Κόσμε ΑΣ ας",
    "cjk": "日本語の文章です。中文字符測試,한국어 텍스트。ｆｕｌｌ ｗｉｄｔｈ 𠮷野家 カタカナ",
    "right to left": "שלום עולם مرحبا بالعالم \u202eabc\u202c \u200fx\u200e",
    "indic and thai": "नमस्ते दुनिया क्ष त्र ภาษาไทย ไม่มีเว้นวรรค தமிழ்",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ☺️ ☺ 1️⃣ 🫠",
    "whitespace": "a  b   c\t\td \t e\n\nf\r\ng\r\rh \n i\u00a0j\u2003k\u3000l\u2028m\u2029n\x0bo ",
    "whitespace around": "   \n\t leading and trailing \t\n   ",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x85\x9f\xad\u200b\u200c\u200d\u2060\ufeff",
    "replacement and private": "\ufffd \ufffe \uffff \ue000 \U000f0000 \U0010ffff",
    "punctuation": "!!!???...,,,;;;:::---___***///\\\\\\|||~~~```'''\"\"\"@#$%^&()[]{}<>«»“”‘’…—–",
    "a long word": "abcdefghij" * 300,
    "long runs": " " * 700 + "\n" * 300 + "=" * 500 + "é" * 200 + "0" * 300 + "\t" * 100,
    "a long text": (_CODE + " Grüße 日本 👍 and plain words, many of them.\n") * 120,
}


def probes(added_tokens: Sequence[str]) -> Iterator[Probe]:
    """All probes for a model with these added tokens."""
    yield from (Probe(label, text) for label, text in _TEXTS.items())
    for token in added_tokens[:MARKED_TOKENS]:
        yield Probe(
            f"the token {token} in a text",
            f"{token}a {token} b{token}{token}\n{token[:-1]} {token[1:]}  {token}\t{token.upper()}",
        )
    for number in range(RANDOM_TEXTS):
        yield Probe(f"random text {number}", _random_text(number, added_tokens))


# Where random characters come from: first, last. ASCII counts thrice, as in life.
_RANGES = (
    (0x20, 0x7E),
    (0x20, 0x7E),
    (0x09, 0x7E),
    (0xA0, 0x24F),
    (0x300, 0x36F),
    (0x370, 0x5FF),
    (0x900, 0xDFF),
    (0x2000, 0x2BFF),
    (0x3000, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xE000, 0xFFFF),
    (0x1F000, 0x1FAFF),
)


def _random_text(seed: int, added_tokens: Sequence[str]) -> str:
    """The same text for the same seed, always: characters by a hash, runs of one range."""
    pieces = []
    first, last = _RANGES[0]
    for position in range(RANDOM_LENGTH):
        drawn = xxh3_64_intdigest(position.to_bytes(4, "little"), seed)
        if drawn % 5 == 0:
            first, last = _RANGES[drawn // 5 % len(_RANGES)]
        if added_tokens and drawn % 37 == 0:
            pieces.append(added_tokens[drawn // 37 % len(added_tokens)])
        pieces.append(" " if drawn % 11 == 0 else chr(first + (drawn >> 16) % (last - first + 1)))
    return "".join(pieces)
