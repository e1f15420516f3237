"""What clients may ask of `/tokenize` and `/detokenize`, in vLLM's words. Pure.

As in openai.py, the structs are the whole list of parameters.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from services.edge.apis.openai import ChatBody, Message, TokenId, check_chat, parse
from services.edge.apis.refusals import Invalid
from services.edge.apis.tools import Tools


class TokenizeBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /tokenize`: a prompt or a conversation."""

    model: str
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1, max_length=10_000)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Tools | None = None


class DetokenizeBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /detokenize`."""

    model: str
    tokens: list[TokenId]


@dataclass(frozen=True, slots=True)
class TokenizeAsk:
    """A tokenization that was asked for, parsed and checked."""

    body: TokenizeBody
    chat: ChatBody | None  # None: `body.prompt` is the text

    @property
    def model(self) -> str:
        """The name of the model, as it was asked for."""
        return self.body.model


CHAT_ONLY = ("add_generation_prompt", "continue_final_message", "chat_template_kwargs", "tools")


def parse_tokenize(body: bytes) -> TokenizeAsk | Invalid:
    """Read the body of a tokenization."""
    asked = parse(_TOKENIZE, body)
    if isinstance(asked, Invalid):
        return asked
    if (asked.prompt is None) is (asked.messages is None):
        return Invalid("Give either prompt or messages", "prompt")
    return _conversation(asked) if asked.messages is not None else _plain(asked)


def parse_detokenize(body: bytes) -> DetokenizeBody | Invalid:
    """Read the body of a detokenization."""
    return parse(_DETOKENIZE, body)


def _plain(asked: TokenizeBody) -> TokenizeAsk | Invalid:
    given = [name for name in CHAT_ONLY if getattr(asked, name) is not None]
    if given:
        return Invalid(f"{given[0]} is only allowed with messages", given[0])
    return TokenizeAsk(asked, None)


def _conversation(asked: TokenizeBody) -> TokenizeAsk | Invalid:
    chat = ChatBody(
        model=asked.model,
        messages=asked.messages or [],
        add_generation_prompt=asked.add_generation_prompt,
        continue_final_message=asked.continue_final_message,
        chat_template_kwargs=asked.chat_template_kwargs,
        tools=asked.tools,
    )
    return check_chat(chat) or TokenizeAsk(asked, chat)


_TOKENIZE = msgspec.json.Decoder(TokenizeBody)
_DETOKENIZE = msgspec.json.Decoder(DetokenizeBody)
