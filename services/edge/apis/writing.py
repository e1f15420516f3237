"""How an API's answers are written: what chat, responses and messages have in common. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from services.edge.apis.logprobs import Entry
from services.edge.apis.refusals import Refusal

# Sends a part of a body; false when it could not.
Write = Callable[[bytes], bool]
# Writes a choice's new text, past all else; false when it could not. inbox.py says when.
Carry = Callable[[int, str], bool]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request, counted once however often it was resumed."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class CallDelta:
    """What is new in a call that the model makes; id and name are in its first delta alone."""

    index: int
    id: str
    name: str
    arguments: str


# The caller's stop string or token that ended a choice, if one did.
Stop = str | int | None


class New(NamedTuple):
    """What is new in a choice. `entries` are None where log-probabilities were not asked for."""

    choice: int
    text: str
    entries: Sequence[Entry] | None = None
    finish_reason: str = ""  # of what ends the choice, in chat's words
    stop: Stop = None
    reasoning: str = ""  # comes before the text
    calls: Sequence[CallDelta] = ()  # come after it


class Choice(NamedTuple):
    """One finished choice."""

    text: str
    finish_reason: str
    entries: Sequence[Entry] | None = None
    prompt_logprobs: Sequence[dict[str, Any] | None] | None = None
    reasoning: str = ""
    calls: Sequence[CallDelta] = ()  # whole
    stop: Stop = None


class Head(NamedTuple):
    """What is known of an answer before its first token."""

    request_id: str
    created: int
    model: str
    service_tier: str | None = None
    alternatives: int = 0  # of each token, where log-probabilities were asked for


class Extras(NamedTuple):
    """What the caller wants in a stream of chat or completions beside the text."""

    with_usage: bool = False  # at its end
    usage_so_far: Callable[[], Usage] | None = None  # in each event


class Closing(NamedTuple):
    """What is known of an answer after its last token."""

    usage: Usage
    explain: dict[str, Any] | None = None  # for who asked for it


class Writer(Protocol):
    """Writes the events of one stream."""

    def begin(self, usage: Usage) -> bytes:
        """What comes before the first content; `usage` knows of the prompt."""

    def new(self, new: New) -> bytes:
        """The events of what is new in a choice, but for its end."""

    def ends(self, ends: Sequence[New], closing: Closing | None) -> bytes:
        """The events that end choices, and with `closing` the stream."""

    def broken(self, refusal: Refusal) -> bytes:
        """The events that end a stream which cannot go on."""

    def lane(self, write: Write) -> Carry | None:
        """The fast lane for plain text, which relay.py describes; None where there is none."""


class Form(Protocol):
    """The form of an API's answers."""

    @property
    def operation(self) -> str:
        """OpenTelemetry's gen_ai.operation.name."""

    def writer(self, head: Head, extras: Extras) -> Writer:
        """What writes a stream."""

    def body(self, head: Head, choices: Sequence[Choice], closing: Closing) -> bytes:
        """An answer that is not streamed."""
