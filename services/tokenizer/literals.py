"""Special tokens spelled out in the texts of a chat: found, hidden from its template, put back.

Only the template may write special tokens; what spells one in a text is text. Pure.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import count

from services.tokenizer.prompt import Chat, Message, Tool, ToolCall

Rewrite = Callable[[str], str]

# A text that ends in the first part of a token, where the next may begin with the rest. In JSON,
# a quote ends it, and whitespace may be escaped.
_AT_THE_END = r'(?=\s*(?:\Z|["\\]))'

# Those of one character above U+FFFF are a pair.
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.", re.DOTALL)

# Stands in a template's input for what is hidden. Filters leave letters and digits alone, or
# change their case.
_STEM = "hiddenliteral"
_TAKEN = re.compile(rf"{_STEM}(\d{{1,9}})x", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hidden:
    """A chat whose texts spell no special token: `names` are in the place of those spelled."""

    chat: Chat
    names: dict[str, str]  # the text by its name
    _pattern: re.Pattern[str]

    def restore(self, text: str) -> str:
        """The text that a template made of the chat, with what was hidden."""
        return self._pattern.sub(lambda name: self.names.get(name[0].lower(), name[0]), text)


class Literals:
    """What spells a special token, of one vocabulary."""

    def __init__(self, tokens: Collection[str], normalize: Rewrite | None = None) -> None:
        """`normalize` is what the vocabulary does to a text before it looks for these tokens."""
        self._normalize = normalize
        spellings = {*tokens, *(_as_json(token)[1:-1] for token in tokens)}
        if normalize:
            spellings |= set(map(normalize, spellings))
        self._firsts = sorted({spelling[0] for spelling in spellings if spelling})
        self._pattern = re.compile("|".join(_branches(spellings)))

    def spelled_in(self, chat: Chat) -> bool:
        """Whether a text of the chat spells a special token, or the first part of one at its end.

        Most chats are done with after a look for the characters with which tokens begin.
        """
        if any(map(self._may_spell, chat.messages)) or chat.tools or chat.template_kwargs_json:
            texts, jsons = _texts(chat), _jsons(chat)
            return any(map(self._spelled, texts)) or any(map(self._spelled_json, jsons))
        return False

    def hide(self, chat: Chat) -> Hidden:
        """The chat with a name in the place of each such text, which occurs nowhere else in it."""
        plain = _rewritten(chat, str, _unescaped)
        taken = {int(number) for number in _TAKEN.findall(repr(plain))}
        stem = f"{_STEM}{next(number for number in count() if number not in taken)}x"
        names: dict[str, str] = {}

        def name(spelled: re.Match[str]) -> str:
            return names.setdefault(spelled[0], f"{stem}{len(names)}z")

        def hidden(text: str) -> str:
            return self._pattern.sub(name, text)

        return Hidden(
            _rewritten(plain, hidden, hidden),
            {name: text for text, name in names.items()},
            re.compile(rf"{stem}\d+z", re.IGNORECASE),
        )

    def _may_spell(self, message: Message) -> bool:
        if self._normalize or message.tool_calls or message.reasoning_content or message.name:
            return True
        text = message.content or ""
        for first in self._firsts:
            if first in text or first in message.role or first in message.tool_call_id:
                return True
        return False

    def _spelled(self, text: str) -> bool:
        read = self._normalize(text) if self._normalize else text
        return any(first in read for first in self._firsts) and bool(self._pattern.search(read))

    def _spelled_json(self, text: str) -> bool:
        escaped = "\\u" in text or "\\/" in text
        return self._spelled(_unescaped(text) if escaped else text)


def _branches(spellings: Collection[str]) -> list[str]:
    """Patterns that match the longest of the spellings, a branch for each first character."""
    heads = sorted({spelling[0] for spelling in spellings if spelling})
    return [
        re.escape(head) + _rest({spelling[1:] for spelling in spellings if spelling[:1] == head})
        for head in heads
    ]


def _rest(endings: Collection[str]) -> str:
    branches = _branches(endings)
    if not branches:
        return ""
    return f"(?:{'|'.join([*branches, '' if '' in endings else _AT_THE_END])})"


def _texts(chat: Chat) -> Iterator[str]:
    for message in chat.messages:
        yield from (message.role, message.content or "", message.name, message.tool_call_id)
        yield message.reasoning_content or ""
        for call in message.tool_calls:
            yield from (call.id, call.name)
    for tool in chat.tools:
        yield from (tool.name, tool.description)


def _jsons(chat: Chat) -> Iterator[str]:
    yield from (call.arguments_json for message in chat.messages for call in message.tool_calls)
    yield from (tool.parameters_json for tool in chat.tools)
    yield chat.template_kwargs_json


def _rewritten(chat: Chat, text: Rewrite, in_json: Rewrite) -> Chat:
    return replace(
        chat,
        messages=tuple(_message(message, text, in_json) for message in chat.messages),
        tools=tuple(
            Tool(
                text(tool.name), text(tool.description), in_json(tool.parameters_json), tool.strict
            )
            for tool in chat.tools
        ),
        template_kwargs_json=_variables(chat.template_kwargs_json, in_json),
    )


def _message(message: Message, text: Rewrite, in_json: Rewrite) -> Message:
    reasoning = message.reasoning_content
    return Message(
        role=text(message.role),
        content=None if message.content is None else text(message.content),
        name=text(message.name),
        tool_calls=tuple(
            ToolCall(text(call.id), text(call.name), in_json(call.arguments_json))
            for call in message.tool_calls
        ),
        tool_call_id=text(message.tool_call_id),
        reasoning_content=None if reasoning is None else text(reasoning),
    )


def _variables(given: str, in_json: Rewrite) -> str:
    """Documents are text; `bos_token` and its like name the tokens that the template writes."""
    try:
        members = {name: _as_json(value) for name, value in json.loads(given).items()}
    except (ValueError, AttributeError, RecursionError):
        return in_json(given)  # the template refuses it
    written = (
        f"{_as_json(name)}: {value if name.endswith('_token') else in_json(value)}"
        for name, value in members.items()
    )
    return f"{{{', '.join(written)}}}"


def _unescaped(text: str) -> str:
    """The same JSON, nothing in it escaped but quotes, backslashes and controls."""
    return _ESCAPES.sub(_character, text)


def _character(escapes: re.Match[str]) -> str:
    try:
        return _as_json(json.loads(f'"{escapes[0]}"'))[1:-1]
    except ValueError:
        return escapes[0]  # then the whole is no JSON, which never gets into a prompt


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
