"""Special tokens that somebody wrote out in a conversation stay text. Pure.

To transformers and vLLM a user's `<|im_end|>` is the token that ends the turn, and what follows it
may be a turn in another's name. Here only the template writes special tokens: what a message or a
tool has of them is hidden from it behind placeholders. Then the template's own are given names that
nobody else knows, and one pass of a second tokenizer, which has its special tokens under those
names, encodes everything as it stands. In pieces it would not be the same: what a text begins with
and how a token takes the blanks beside it depend on the whole.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from struct import pack

from tokenizers import Tokenizer

from services.tokenizer.prompt import Chat, Message, Tool, ToolCall

# What names and placeholders begin with; letters and digits pass through the filters of
# templates. A conversation that holds it is refused, so it need not be secret.
NONCE = "q7f3d91c2b8e4a60"


class Literals:
    """The special tokens of one tokenizer, as texts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        contents = sorted(
            (
                token.content
                for token in tokenizer.get_added_tokens_decoder().values()
                if token.special
            ),
            key=len,
            reverse=True,  # the longest that fits is the one, as for tokenizers
        )
        self._names = {content: f"{NONCE}name{at}x" for at, content in enumerate(contents)}
        self._placeholders = {content: f"{NONCE}text{at}x" for at, content in enumerate(contents)}
        self._beginning = _common_beginning(contents)
        self._any = re.compile("|".join(map(re.escape, contents))) if contents else None
        self._renamed = _renamed(tokenizer, self._names)

    def are_in(self, chat: Chat) -> bool:
        """Whether a text of the conversation holds one; nearly none does."""
        if self._any is None:
            return False
        beginning = self._beginning
        # Every request comes by here: most messages are a role and a content.
        for message in chat.messages:
            content = message.content
            if content and beginning in content and self._any.search(content):
                return True
            more = message.tool_calls or message.reasoning_content or message.name
            if (more or message.tool_call_id) and any(map(self._is_in, _texts_of(message))):
                return True
            if beginning in message.role and self._is_in(message.role):
                return True
        return bool(chat.tools) and any(map(self._is_in, _texts_of_tools(chat)))

    def _is_in(self, text: str) -> bool:
        return self._any is not None and self._any.search(text) is not None

    def can_be_kept(self, chat: Chat) -> bool:
        """Whether this conversation can be encoded with its literals as text."""
        return self._renamed is not None and not any(NONCE in text for text in _texts(chat))

    def hidden(self, chat: Chat) -> Chat:
        """The conversation with a placeholder for each."""
        return replace(
            chat,
            messages=tuple(map(self._message, chat.messages)),
            tools=tuple(map(self._tool, chat.tools)),
        )

    def encode(self, rendered: str) -> bytes:
        """The ids of a hidden conversation that a template rendered, as an encoder gives them."""
        assert self._any is not None
        assert self._renamed is not None, "can_be_kept() comes first"
        named = self._any.sub(lambda found: self._names[found[0]], rendered)
        for content, placeholder in self._placeholders.items():
            named = named.replace(placeholder, content)
        [encoding] = self._renamed.encode_batch_fast([named], add_special_tokens=False)
        return pack(f"<{len(encoding)}I", *encoding.ids)

    def _message(self, message: Message) -> Message:
        return replace(
            message,
            role=self._text(message.role),
            content=message.content and self._text(message.content),
            name=self._text(message.name),
            tool_calls=tuple(map(self._call, message.tool_calls)),
            tool_call_id=self._text(message.tool_call_id),
            reasoning_content=message.reasoning_content and self._text(message.reasoning_content),
        )

    def _call(self, call: ToolCall) -> ToolCall:
        arguments = self._text(_unescaped(call.arguments_json))
        return ToolCall(self._text(call.id), self._text(call.name), arguments)

    def _tool(self, tool: Tool) -> Tool:
        return replace(
            tool,
            name=self._text(tool.name),
            description=self._text(tool.description),
            parameters_json=self._text(_unescaped(tool.parameters_json)),
        )

    def _text(self, text: str) -> str:
        assert self._any is not None
        return self._any.sub(lambda found: self._placeholders[found[0]], text)


def _texts(chat: Chat) -> Iterator[str]:
    """Every text of a conversation that a caller gives."""
    for message in chat.messages:
        yield message.role
        yield message.content or ""
        yield from _texts_of(message)
    yield from _texts_of_tools(chat)


def _texts_of(message: Message) -> Iterator[str]:
    yield message.name
    yield message.tool_call_id
    yield message.reasoning_content or ""
    for call in message.tool_calls:
        yield call.id
        yield call.name
        yield _unescaped(call.arguments_json)


def _texts_of_tools(chat: Chat) -> Iterator[str]:
    for tool in chat.tools:
        yield tool.name
        yield tool.description
        yield _unescaped(tool.parameters_json)


def _unescaped(text: str) -> str:
    """JSON text without escapes for what needs none: a literal may hide behind them."""
    if "\\" not in text:
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text  # the template's variables are read from it, and say what is wrong


def _common_beginning(contents: list[str]) -> str:
    shortest, longest = min(contents, default=""), max(contents, default="")
    pairs = zip(shortest, longest, strict=False)
    same = next((at for at, (a, b) in enumerate(pairs) if a != b), min(map(len, contents or [""])))
    return shortest[:same]


def _renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer | None:
    """The same tokenizer with other names for its special tokens; None if it cannot be had."""
    whole = json.loads(tokenizer.to_str())
    whole["post_processor"] = None  # it adds special tokens, by the names they had
    for token in whole["added_tokens"]:
        if token["special"]:
            token["content"] = names[token["content"]]
    model = whole["model"]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(text, text): token_id for text, token_id in vocabulary.items()}
    else:  # Unigram's: pairs of a text and a score
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
    renamed = Tokenizer.from_str(json.dumps(whole))
    agree = all(
        renamed.token_to_id(name) == tokenizer.token_to_id(content)
        for content, name in names.items()
    )
    return renamed if agree else None
