from struct import unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from services.tokenizer.encoder import ReferenceEncoder
from services.tokenizer.models import Model
from services.tokenizer.outcomes import OutsideVocabulary
from services.tokenizer.vocabulary import Vocabulary

# What SmolLM2 has tokens for: some control characters and the planes above it lacks.
characters = st.characters(
    max_codepoint=0x3FFFF,
    exclude_categories=["Cs"],
    exclude_characters="\x04\x06\x13\x14\x16\x1d",
)
texts = st.text(characters, min_size=1)


def ids(model: Model, text: str) -> list[int]:
    encoded = model.vocabulary.encode(text, add_special_tokens=True)
    return list(unpack(f"<{len(encoded) // 4}I", encoded))


@given(text=texts)
def test_decode_inverts_encode(smollm2: Model, text: str) -> None:
    assert smollm2.vocabulary.decode(ids(smollm2, text), keep_special_tokens=True) == text


@given(text=texts, cut=st.integers(1, 4))
def test_a_character_cut_at_the_end_is_left_out(smollm2: Model, text: str, cut: int) -> None:
    decoded = smollm2.vocabulary.decode(ids(smollm2, text)[:-cut], keep_special_tokens=True)
    assert isinstance(decoded, str)
    assert text.startswith(decoded)


def test_bytes_that_nothing_can_complete_are_shown(smollm2: Model, reference: Tokenizer) -> None:
    continuation = reference.token_to_id("\u0122")  # stands for the byte 0x80
    assert continuation is not None
    assert smollm2.vocabulary.decode([continuation], keep_special_tokens=False) == "\ufffd"


def test_special_tokens_are_left_out_unless_kept(smollm2: Model) -> None:
    tokens = ids(smollm2, "<|im_start|>user\nHi \U0001f469<|im_end|>")
    decode = smollm2.vocabulary.decode
    assert decode(tokens, keep_special_tokens=False) == "user\nHi \U0001f469"
    kept = "<|im_start|>user\nHi \U0001f469<|im_end|>"
    assert decode(tokens, keep_special_tokens=True) == kept


def test_a_character_cut_before_a_special_token_is_left_out(smollm2: Model) -> None:
    tokens = [*ids(smollm2, "Hi \U0001f469")[:-1], 2]
    assert smollm2.vocabulary.decode(tokens, keep_special_tokens=False) == "Hi "


def test_word_pieces(minilm: Model) -> None:
    tokens = ids(minilm, "Hello, headway!")
    assert tokens[0] == 101  # [CLS]
    assert tokens[-1] == 102  # [SEP]
    assert minilm.vocabulary.decode(tokens, keep_special_tokens=False) == "hello, headway!"


def test_a_long_text_is_neither_cut_nor_padded(minilm: Model) -> None:
    assert len(ids(minilm, "word " * 1000)) == 1002
    assert len(ids(minilm, "word")) == 3


def test_ids_outside_are_named(smollm2: Model) -> None:
    size = smollm2.vocabulary.size
    outside = OutsideVocabulary(size, size)
    assert smollm2.vocabulary.decode([5, size], keep_special_tokens=False) == outside
    assert smollm2.vocabulary.check([0, size - 1]) is None
    assert smollm2.vocabulary.check([]) is None


@pytest.fixture
def byte_fallback() -> Vocabulary:
    """A vocabulary as Llama's: pieces, and a token for each byte."""
    pieces = {"a": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=pieces, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return Vocabulary(tokenizer, ReferenceEncoder(tokenizer))


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_byte_tokens_of_a_cut_character_are_left_out(byte_fallback: Vocabulary, kept: int) -> None:
    whole = [byte + 1 for byte in "aé\U0001f469".encode()]
    tokens = [0, *whole[1:3], *whole[3 : 3 + kept]]
    assert byte_fallback.decode(tokens, keep_special_tokens=True) == "aé"


def test_a_replacement_character_that_was_meant_stays(byte_fallback: Vocabulary) -> None:
    tokens = [0, *(byte + 1 for byte in "\ufffd".encode())]
    assert byte_fallback.decode(tokens, keep_special_tokens=True) == "a\ufffd"
