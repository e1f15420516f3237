"""From token ids to text, and the stop strings in it."""

from functools import cache
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from services.worker.text import Decoder, Stop, StopMatcher, TextStream, TokenBytes

REPLACEMENT = "\ufffd"


@cache
def tokenizer_of(model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model / "tokenizer.json"))


@pytest.fixture(scope="module")
def tokenizer(demo_model: Path) -> Tokenizer:
    return tokenizer_of(demo_model)


def decoded(tokenizer: Tokenizer, prompt: list[int], generated: list[int], keep: bool) -> str:
    decoder = Decoder(tokenizer, prompt, keep)
    return "".join(decoder.step(token_id) for token_id in generated)


def shared(one: str, other: str) -> str:
    pairs = zip(one, other, strict=False)
    return "".join(a for a, b in takewhile(lambda pair: pair[0] == pair[1], pairs))


texts = st.text(
    # This vocabulary lacks some bytes of characters beyond the basic plane.
    st.sampled_from("abé ñ\n漢🤗🇪🇸<|im_end|>'s0") | st.characters(max_codepoint=0xD7FF),
    max_size=40,
)


@given(before=texts, after=texts, keep=st.booleans())
def test_text_is_what_the_whole_decoded_has_beyond_the_prompt(
    tokenizer: Tokenizer, before: str, after: str, keep: bool
) -> None:
    prompt = tokenizer.encode(before, add_special_tokens=False).ids
    generated = tokenizer.encode(after, add_special_tokens=False).ids
    assume(tokenizer.decode([*prompt, *generated], skip_special_tokens=False) == before + after)
    whole = tokenizer.decode([*prompt, *generated], skip_special_tokens=not keep)
    start = tokenizer.decode(prompt, skip_special_tokens=not keep)
    assert start + decoded(tokenizer, prompt, generated, keep) == whole


some_ids = st.integers(0, 49_151) | st.integers(100, 300)  # the latter are single bytes


@given(st.lists(some_ids, max_size=20), st.integers(0, 20))
def test_any_ids_decode_as_the_whole_does(tokenizer: Tokenizer, ids: list[int], cut: int) -> None:
    prompt, generated = ids[:cut], ids[cut:]
    whole: str = tokenizer.decode(ids, skip_special_tokens=True)
    start: str = tokenizer.decode(prompt, skip_special_tokens=True)
    text = decoded(tokenizer, prompt, generated, keep=False)
    # A character may begin in the prompt: it is new once it is whole.
    new = whole[len(shared(start, whole)) :]
    assert new.startswith(text)
    assert new[len(text) :].strip(REPLACEMENT) == ""
    assert not text.endswith(REPLACEMENT)


def test_a_character_comes_out_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🤗").ids
    decoder = Decoder(tokenizer, [28], keep_special=False)
    assert [decoder.step(token_id) for token_id in ids] == [*[""] * (len(ids) - 1), "🤗"]


def test_a_character_that_the_prompt_began_comes_out_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("so 🤗").ids
    assert decoded(tokenizer, ids[:-1], ids[-1:], keep=False).strip() == "🤗"


def test_half_a_character_stays_out(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a🤗").ids
    stream = TextStream(Decoder(tokenizer, [28], keep_special=False), Stop())
    assert "".join(stream.feed(token_id)[0] for token_id in ids[:-1]) + stream.rest() == "a"


@pytest.mark.parametrize(
    ("stops", "pieces", "text", "match"),
    [
        pytest.param(["b"], ["abc"], "a", "b", id="inside-a-token"),
        pytest.param(["bcd"], ["ab", "c", "de"], "a", "bcd", id="over-token-borders"),
        pytest.param(["bcd"], ["ab", "cx"], "abcx", "", id="what-only-began-comes-out"),
        pytest.param(["bcd"], ["ab", "c"], "abc", "", id="what-was-held-comes-at-the-end"),
        pytest.param(["cd", "bcde"], ["abcde"], "ab", "cd", id="the-earliest-completion-wins"),
        pytest.param(["c", "bc"], ["abc"], "a", "bc", id="of-two-at-one-place-the-longer"),
        pytest.param(["aab"], ["aaa", "b"], "a", "aab", id="a-start-inside-a-start"),
        pytest.param(["é\n"], ["é", "\n"], "", "é\n", id="any-text"),
        pytest.param([], ["a", "b"], "ab", "", id="no-stop"),
    ],
)
def test_stop_strings(stops: list[str], pieces: list[str], text: str, match: str) -> None:
    assert stopped(Stop(tuple(stops)), pieces) == (text, match)


@pytest.mark.parametrize(
    ("after", "pieces", "expected"),
    [
        pytest.param(1, ["x", "a"], ("xa", ""), id="does-not-count-too-early"),
        pytest.param(2, ["x", "x", "x"], ("xx", "x"), id="counts-from-the-next-token"),
        pytest.param(1, ["ax", "b"], ("axb", ""), id="nor-later-for-what-came-early"),
    ],
)
def test_min_tokens(after: int, pieces: list[str], expected: tuple[str, str]) -> None:
    assert stopped(Stop(("x",), after_tokens=after), pieces) == expected


def test_include_stop_keeps_the_match_and_drops_what_follows() -> None:
    assert stopped(Stop(("bc",), include=True), ["ab", "cd"]) == ("abc", "bc")


def stopped(stop: Stop, pieces: list[str]) -> tuple[str, str]:
    matcher = StopMatcher(stop)
    text = ""
    for piece in pieces:
        out, match = matcher.feed(piece)
        text += out
        if match:
            return text, match
    return text + matcher.rest(), ""


letters = st.text("ab", min_size=1, max_size=4)


@given(st.lists(letters, max_size=3), st.lists(letters, max_size=12), st.booleans())
def test_deltas_together_are_the_text_up_to_the_first_stop(
    stops: list[str], pieces: list[str], include: bool
) -> None:
    whole = "".join(pieces)
    ends = [(whole.find(stop) + len(stop), -len(stop), stop) for stop in stops if stop in whole]
    end, _, match = min(ends, default=(len(whole), 0, ""))
    expected = whole[: end if include or not match else end - len(match)]
    assert stopped(Stop(tuple(stops), include), pieces) == (expected, match)


@given(st.lists(letters, min_size=1, max_size=3), st.lists(letters, max_size=12))
def test_nothing_of_a_stop_string_ever_goes_out(stops: list[str], pieces: list[str]) -> None:
    text, _ = stopped(Stop(tuple(stops)), pieces)
    assert not any(stop in text for stop in stops)


@pytest.mark.parametrize("text", ["hello", " world", "é", "漢", "\n", "<|im_end|>"])
def test_the_bytes_of_tokens_make_the_text(tokenizer: Tokenizer, text: str) -> None:
    spelled = TokenBytes(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert b"".join(spelled.of(token_id) for token_id in ids) == text.encode()


def test_a_row_without_a_token_has_no_bytes(tokenizer: Tokenizer) -> None:
    assert TokenBytes(tokenizer).of(10**6) == b""
