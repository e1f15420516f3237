"""The core: one prompt in, one outcome out."""

from itertools import count
from struct import pack

import pytest

from services.blocks import block_hashes, chain_root
from services.tokenizer.encoding import encode
from services.tokenizer.models import Models
from services.tokenizer.outcomes import (
    EmptyPrompt,
    Encoded,
    Outcome,
    OutsideVocabulary,
    TemplateRefused,
    UnknownModel,
)
from services.tokenizer.prompt import Chat, Message, Prompt, Text, TokenIds

HELLO = Chat((Message("user", "Hello"),))
LONG = Text("one two three four " * 30)


def outcome(models: Models, prompt: Prompt) -> Outcome:
    return encode(prompt, models, count().__next__).outcome


def encoded(models: Models, prompt: Prompt) -> Encoded:
    found = outcome(models, prompt)
    assert isinstance(found, Encoded)
    return found


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        pytest.param(
            Prompt("gpt", HELLO),
            UnknownModel("gpt", ("SmolLM2-135M-Instruct", "minilm", "smollm2")),
            id="an-unknown-model-names-the-known",
        ),
        pytest.param(
            Prompt("minilm", HELLO),
            TemplateRefused("the model has no chat template"),
            id="no-chat-without-a-template",
        ),
        pytest.param(Prompt("smollm2", Text("")), EmptyPrompt(), id="no-text"),
        pytest.param(Prompt("smollm2", TokenIds(())), EmptyPrompt(), id="no-ids"),
        pytest.param(
            Prompt("smollm2", TokenIds((1, 49152, 7))),
            OutsideVocabulary(49152, 49152),
            id="an-id-outside",
        ),
    ],
)
def test_refused(models: Models, prompt: Prompt, expected: Outcome) -> None:
    assert outcome(models, prompt) == expected


def test_a_chat_is_rendered_and_encoded_as_the_model_expects(models: Models) -> None:
    found = encoded(models, Prompt("smollm2", HELLO))
    text = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert found.token_ids == encoded(models, Prompt("smollm2", Text(text))).token_ids


def test_ids_are_taken_as_they_are(models: Models) -> None:
    found = encoded(models, Prompt("smollm2", TokenIds((1, 49151, 0))))
    assert found.token_ids == pack("<3I", 1, 49151, 0)


def test_the_hashes_are_those_of_the_chain(models: Models) -> None:
    found = encoded(models, Prompt("smollm2", LONG, "lora", "salt"))
    root = chain_root("smollm2", "lora", "salt")
    assert found.block_hashes == block_hashes(found.token_ids, 16, root)
    assert len(found.block_hashes) // 8 == len(found.token_ids) // 4 // 16


def test_an_alias_shares_the_main_names_cache(models: Models) -> None:
    assert encoded(models, Prompt("SmolLM2-135M-Instruct", LONG)) == encoded(
        models, Prompt("smollm2", LONG)
    )


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Prompt("smollm2", LONG, adapter="lora"), id="adapters"),
        pytest.param(Prompt("smollm2", LONG, cache_salt="lora"), id="salts"),
    ],
)
def test_caches_that_are_apart(models: Models, other: Prompt) -> None:
    base, apart = encoded(models, Prompt("smollm2", LONG)), encoded(models, other)
    assert base.token_ids == apart.token_ids
    hashes = {base.block_hashes[at : at + 8] for at in range(0, len(base.block_hashes), 8)}
    others = {apart.block_hashes[at : at + 8] for at in range(0, len(apart.block_hashes), 8)}
    assert hashes.isdisjoint(others)


def test_only_a_chat_takes_time_to_render(models: Models) -> None:
    plain = encode(Prompt("smollm2", LONG), models, count().__next__)
    assert (plain.started_ns, plain.rendered_ns, plain.ended_ns) == (0, 0, 1)
    chat = encode(Prompt("smollm2", HELLO), models, count().__next__)
    assert (chat.started_ns, chat.rendered_ns, chat.ended_ns) == (0, 1, 2)


@pytest.mark.parametrize(
    ("special", "extra"), [(None, 2), (True, 2), (False, 0)], ids=["absent", "yes", "no"]
)
def test_a_text_has_its_special_tokens_unless_they_are_not_wanted(
    models: Models, special: bool | None, extra: int
) -> None:
    bare = encoded(models, Prompt("minilm", Text("sea"), add_special_tokens=False)).tokens
    assert encoded(models, Prompt("minilm", Text("sea"), add_special_tokens=special)).tokens == (
        bare + extra
    )


def test_a_chat_has_them_only_if_they_are_wanted(models: Models) -> None:
    rendered = [
        encoded(models, Prompt("smollm2", HELLO, add_special_tokens=each)).token_ids
        for each in (None, False)
    ]
    assert rendered[0] == rendered[1]
