"""The simulated engine's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.blocks import block_hashes, chain_root, read_hashes
from services.worker.sim_words import WordTokens, embedding, word_ids

WORDS = tuple(range(100, 900))
ids = st.lists(st.integers(0, 49_151), min_size=1, max_size=40)


def continued(tokens: list[int], count: int, variant: bytes = b"") -> list[int]:
    run = WordTokens(tokens, 4, WORDS, variant)
    return [run.add_next() for _ in range(count)]


@given(ids, st.integers(0, 20))
def test_a_resumed_run_goes_on_as_it_would_have(prompt: list[int], done: int) -> None:
    whole = continued(prompt, 30)
    assert continued([*prompt, *whole[:done]], 30 - done) == whole[done:]


def test_text_depends_on_every_token() -> None:
    texts = {tuple(continued(prompt, 8)) for prompt in ([1, 2, 3], [9, 2, 3], [1, 2, 4], [1, 2])}
    assert len(texts) == 4


def test_variants_differ() -> None:
    assert continued([1], 8, b"0/7") != continued([1], 8, b"1/7")


def test_block_hashes_are_the_chain_of_the_wire() -> None:
    run = WordTokens([1, 2, 3, 4, 5], 2, WORDS, cache_salt="s")
    wire = b"".join(token.to_bytes(4, "little") for token in [1, 2, 3, 4, 5])
    assert list(run.block_hashes(2)) == list(
        read_hashes(block_hashes(wire, 2, chain_root("sim", cache_salt="s")))
    )


def test_words_are_plain_english_and_ordered() -> None:
    vocabulary = {"Ġand": 5, "▁the": 3, "Ġa": 1, "Ġé": 2, "word": 4, "Ġ42": 6, "ĠUp": 7}
    assert word_ids(vocabulary) == (3, 5)


def test_a_vocabulary_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="no token that is an English word"):
        word_ids({"[UNK]": 0})


def test_an_embedding_has_length_one_and_depends_on_the_tokens() -> None:
    first, second = embedding([1, 2]), embedding([1, 3])
    assert sum(value * value for value in first) == pytest.approx(1)
    assert first != second == embedding([1, 3])
