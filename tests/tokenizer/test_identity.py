"""The proof of identity: caches change no id and no hash, whatever the conversation."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from fastokens._native import Tokenizer as FastTokenizer  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers.utils.chat_template_utils import render_jinja_template

from services.blocks import block_hash, chain_root
from services.tokenizer.encoder import FastEncoder, ReferenceEncoder, choose_encoder
from services.tokenizer.encoding import encode
from services.tokenizer.hashing import HashChain
from services.tokenizer.models import Model, Models
from services.tokenizer.outcomes import EmptyPrompt, Encoded
from services.tokenizer.probes import probes
from services.tokenizer.prompt import Chat, Message, Prompt
from services.tokenizer.renaming import rename_special
from services.tokenizer.template import CHATML, ChatTemplate
from services.tokenizer.vocabulary import Vocabulary

Conversation = tuple[tuple[str, str], ...]  # role and text of each message

SPLIT = Regex(  # Llama 3's
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim }}"
    "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}"
    "{{ ' ' + message.content + eos_token }}{% else %}"
    "{{ '[INST] ' + message.content + ' [/INST]' }}{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for message in messages %}{{ message.role | upper }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
STRIPPING = (
    "{% for message in messages %}<turn>{{ message.role }}\n{{ message.content.strip() }}</turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant\n<think>{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A template, and the tokens that its vocabulary adds for it."""

    template: str
    added: tuple[AddedToken, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    normalizer: normalizers.Normalizer | None = None


def special(*contents: str) -> tuple[AddedToken, ...]:
    return tuple(AddedToken(content, special=True, normalized=False) for content in contents)


FAMILIES = {
    "chatml": Family(CHATML, special("<|im_start|>", "<|im_end|>"), normalizer=normalizers.NFC()),
    "llama": Family(
        LLAMA,
        special("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        (("bos_token", "<|begin_of_text|>"),),
    ),
    "mistral": Family(
        MISTRAL,
        special("<s>", "</s>", "[INST]", "[/INST]"),
        (("bos_token", "<s>"), ("eos_token", "</s>")),
    ),
    "no special tokens": Family(PLAIN),
    "tokens that strip": Family(
        STRIPPING,
        (
            AddedToken("<turn>", special=True, rstrip=True),
            AddedToken("</turn>", special=True, lstrip=True),
            AddedToken("<think>", special=False, normalized=False),
        ),
    ),
}


def vocabulary(family: Family) -> Tokenizer:
    """A small vocabulary that is made like the large ones: bytes, merges, added tokens."""
    tokenizer = Tokenizer(models.BPE())
    if family.normalizer is not None:
        tokenizer.normalizer = family.normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(SPLIT, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([Path(__file__).read_text(encoding="utf-8")], trainer)
    tokenizer.add_tokens(list(family.added))
    return tokenizer


class Subject:
    """One family's model with caches, and what it is compared with."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._reference = vocabulary(family)
        self._fast = FastTokenizer.from_json_str(self._reference.to_str())
        self._renamed = rename_special(self._reference, "0" * 32)
        self._literally = Tokenizer.from_str(self._reference.to_str())
        self._literally.encode_special_tokens = True
        self._variables: dict[str, Any] = dict(family.variables)
        self._template = ChatTemplate({"default": family.template}, self._variables)

    def with_caches(self, cache_bytes: int, block_size: int) -> Models:
        """The model, its caches empty and at most so large."""
        self._fast.enable_segment_cache(cache_bytes)
        encoder = FastEncoder(self._fast, ReferenceEncoder(self._reference))
        chain = HashChain(block_size, cache_bytes)
        vocabulary = Vocabulary(self._reference, encoder, self._renamed)
        model = Model("m", (), vocabulary, self._template, chain)
        return Models([model])

    def expected(self, conversation: Conversation, block_size: int) -> Encoded | EmptyPrompt:
        """Afresh: the renderer, tokenizers, and one hash after the other."""
        ids = self._ids(conversation)
        if not ids:
            return EmptyPrompt()
        parent, hashes = chain_root("m"), b""
        for at in range(0, len(ids) - block_size + 1, block_size):
            parent = block_hash(parent, pack(f"<{block_size}I", *ids[at : at + block_size]))
            hashes += pack("<Q", parent)
        return Encoded("m", pack(f"<{len(ids)}I", *ids), hashes, block_size)

    def _ids(self, conversation: Conversation) -> list[int]:
        """The special tokens of the template, and between them each stretch on its own."""
        tokens = {token.content: token for token in self._family.added if token.special}
        stand_ins = {chr(0xE900 + place): token for place, token in enumerate(tokens)}
        said = [(role, _replaced(text, _turned(stand_ins))) for role, text in conversation]
        rendered: Any = render_jinja_template(  # annotated as str, returns lists
            conversations=[[{"role": role, "content": text} for role, text in said]],
            chat_template=self._family.template,
            add_generation_prompt=True,
            **self._variables,
        )
        ids: list[int] = []
        pieces = re.split(f"({'|'.join(map(re.escape, tokens)) or '(?!)'})", rendered[0][0])
        for before, piece, after in zip(["", *pieces], pieces, [*pieces[1:], ""], strict=False):
            if piece in tokens:
                ids += self._reference.encode(piece, add_special_tokens=False).ids
                continue
            text = _replaced(piece, stand_ins)
            text = text.lstrip() if before in tokens and tokens[before].rstrip else text
            text = text.rstrip() if after in tokens and tokens[after].lstrip else text
            ids += self._literally.encode(text, add_special_tokens=False).ids
        return ids


def _replaced(text: str, by: dict[str, str]) -> str:
    pattern = "|".join(sorted(map(re.escape, by), key=len, reverse=True))
    return re.sub(pattern or "(?!)", lambda found: by[found[0]], text)


def _turned(pairs: dict[str, str]) -> dict[str, str]:
    return {value: key for key, value in pairs.items()}


@pytest.fixture(scope="module", params=FAMILIES)
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(FAMILIES[request.param])


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_fastokens_and_its_cache_are_what_is_tested(family: Family) -> None:
    tokenizer = vocabulary(family)
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    assert choose_encoder(tokenizer, 0, probes(added)).encoder.name == "fastokens"


MARKS = [token.content for family in FAMILIES.values() for token in family.added]
PIECES = (
    *("\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea"),
    *("e\u0301", "n\u0303o\u0308", "\u0301", "\u1e9b\u0323", "\ufb01", "\u00e9"),
    *("\u05e9\u05dc\u05d5\u05dd ", "\u0645\u0631\u062d\u0628\u0627", "\u202eabc\u202c", "\u200f"),
    *("\u65e5\u672c\u8a9e", "\u0e20\u0e32\u0e29\u0e32", "\ufeff", "\u00a0", "\u2028", "\x00"),
    *(" ", "  ", "\n", "\n\n", "\r\n", "\t", " word", "it's", "12345", "\\n", "</", "<|", "|>"),
)
repeats = st.builds(
    lambda piece, times: piece * times,
    st.sampled_from(["a", "ab ", " ", "\n", "=", "\u00e9", "7", *MARKS]),
    st.integers(50, 400),
)
texts = st.lists(
    st.sampled_from(PIECES) | st.sampled_from(MARKS) | st.text(max_size=20) | repeats, max_size=8
).map("".join)
spoken = st.tuples(st.sampled_from(["system", "user", "assistant"]), texts)


@st.composite
def histories(draw: st.DrawFn) -> list[Conversation]:
    """The prompts of one conversation: mostly it grows, sometimes it is edited or cut."""
    conversation = draw(st.lists(spoken, min_size=1, max_size=3))
    history = [tuple(conversation)]
    for _ in range(draw(st.integers(1, 6))):
        change = draw(st.sampled_from(["grow", "grow", "grow", "edit", "drop", "again"]))
        at = draw(st.integers(0, len(conversation) - 1))
        if change == "grow":
            conversation += draw(st.lists(spoken, min_size=1, max_size=2))
        elif change == "edit":
            conversation[at] = draw(spoken)
        elif change == "drop" and len(conversation) > 1:
            del conversation[at]
        history.append(tuple(conversation))
    return history


def encoded(models: Models, conversation: Conversation) -> object:
    chat = Chat(tuple(Message(role, text) for role, text in conversation))
    return encode(Prompt("m", chat), models, count().__next__).outcome


# None, little enough to evict all the time, and the default's size.
cache_sizes = st.sampled_from([0, 20_000, 32 * 2**20])


@given(history=histories(), cache_bytes=cache_sizes, block_size=st.sampled_from([1, 4, 16]))
def test_caches_change_no_id_and_no_hash(
    subject: Subject, history: list[Conversation], cache_bytes: int, block_size: int
) -> None:
    models = subject.with_caches(cache_bytes, block_size)
    for conversation in history:
        assert encoded(models, conversation) == subject.expected(conversation, block_size)


@settings(max_examples=25)
@given(talks=st.lists(histories(), min_size=2, max_size=4), cache_bytes=cache_sizes)
def test_conversations_in_several_threads_do_not_disturb_one_another(
    subject: Subject, talks: list[list[Conversation]], cache_bytes: int
) -> None:
    models = subject.with_caches(cache_bytes, 4)
    with ThreadPoolExecutor(len(talks)) as threads:
        found = threads.map(lambda talk: [encoded(models, each) for each in talk], talks)
        expected = [[subject.expected(each, 4) for each in talk] for talk in talks]
        assert list(found) == expected
