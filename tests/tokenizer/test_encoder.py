from concurrent.futures import ThreadPoolExecutor
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from services.tokenizer.encoder import (
    FastEncoder,
    ReferenceEncoder,
    choose_encoder,
    first_difference,
)
from services.tokenizer.models import Model
from services.tokenizer.probes import Probe, probes

MARKS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "\n", "  ", "user"]
texts = st.lists(st.text() | st.sampled_from(MARKS)).map("".join)


def ids(tokenizer: Tokenizer, text: str, add_special_tokens: bool) -> bytes:
    found = tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
    return pack(f"<{len(found)}I", *found)


def test_fastokens_is_chosen_where_it_proves_identical(smollm2: Model) -> None:
    assert smollm2.vocabulary.encoder.name == "fastokens"


def test_tokenizers_is_chosen_where_fastokens_cannot_read_the_model(minilm: Model) -> None:
    assert minilm.vocabulary.encoder.name == "tokenizers"


@given(text=texts, add_special_tokens=st.booleans())
def test_fastokens_gives_the_ids_of_tokenizers(
    smollm2: Model, reference: Tokenizer, text: str, add_special_tokens: bool
) -> None:
    expected = ids(reference, text, add_special_tokens)
    assert smollm2.vocabulary.encode(text, add_special_tokens) == expected


@given(turns=st.lists(texts, min_size=1, max_size=6))
def test_the_segment_cache_changes_no_id(
    smollm2: Model, reference: Tokenizer, turns: list[str]
) -> None:
    conversation = ""
    for turn in turns:  # each longer one finds the shorter ones in the cache
        conversation += f"<|im_start|>user\n{turn}<|im_end|>\n"
        expected = ids(reference, conversation, add_special_tokens=False)
        assert smollm2.vocabulary.encode(conversation, add_special_tokens=False) == expected


def test_a_repeated_segment_is_cached_within_the_bound(reference: Tokenizer) -> None:
    encoder = choose_encoder(reference, cache_bytes=100_000, probes=()).encoder
    for number in range(200):
        encoder.encode(f"<|im_start|>user\n{'word ' * 100}{number}<|im_end|>", False)
    assert 0 < encoder.cached_bytes() <= 100_000


def test_no_cache_is_a_cache_of_no_bytes(reference: Tokenizer) -> None:
    encoder = choose_encoder(reference, cache_bytes=0, probes=()).encoder
    encoder.encode("<|im_start|>user\nHello<|im_end|>", False)
    assert encoder.cached_bytes() == 0


def test_threads_do_not_disturb_one_another(smollm2: Model, reference: Tokenizer) -> None:
    conversations = [f"<|im_start|>user\n{'a b ' * n}é<|im_end|>\n" for n in range(200)]
    expected = [ids(reference, text, False) for text in conversations]

    def encode(text: str) -> bytes:
        return smollm2.vocabulary.encode(text, add_special_tokens=False)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            assert list(threads.map(encode, conversations)) == expected


@given(text=texts)
def test_the_fallback_gives_the_ids_of_tokenizers(minilm: Model, text: str) -> None:
    encoding = minilm.vocabulary.encode(text, add_special_tokens=True)
    assert encoding.startswith(pack("<I", 101))
    assert encoding.endswith(pack("<I", 102))


class Liar(ReferenceEncoder):
    """Right, except about one text."""

    def encode(self, text: str, add_special_tokens: bool) -> bytes:
        wrong = "\U0001f469" in text and not add_special_tokens
        return b"" if wrong else super().encode(text, add_special_tokens)


def test_one_different_probe_is_enough(reference: Tokenizer) -> None:
    honest = ReferenceEncoder(reference)
    assert first_difference(honest, honest, probes(MARKS)) is None
    assert first_difference(Liar(reference), honest, probes(MARKS)) == "emoji"


def test_a_difference_leads_to_tokenizers_and_says_so(
    reference: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FastEncoder, "encode", lambda *_: b"\x07\x00\x00\x00")
    choice = choose_encoder(reference, 0, [Probe("greeting", "Hello")])
    assert choice.encoder.name == "tokenizers"
    assert choice.why_not_fast == "fastokens gave other ids on the probe 'greeting'"


def test_a_text_that_fastokens_gives_up_on_is_encoded_all_the_same(reference: Tokenizer) -> None:
    class GivesUp:
        def encode_batch_flat(self, texts: list[str], add_special_tokens: bool) -> bytes:
            raise ValueError("match limit exceeded")

    encoder = FastEncoder(GivesUp(), ReferenceEncoder(reference))
    assert encoder.encode("Hello there", False) == ids(reference, "Hello there", False)


def test_probes_are_the_same_at_every_start() -> None:
    assert list(probes(MARKS)) == list(probes(MARKS))
    assert len({probe.text for probe in probes(MARKS)}) == len(list(probes(MARKS)))
