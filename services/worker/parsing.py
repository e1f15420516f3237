"""The parser port: what tells reasoning and calls apart from the text of an answer. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol


class ToolChoice(Enum):
    """Which tools a model may call."""

    NONE = auto()
    AUTO = auto()
    REQUIRED = auto()
    NAMED = auto()


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a model may call; without a schema it takes no arguments."""

    name: str
    parameters_json: str = ""
    is_strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsing:
    """What to tell apart in the answer to a chat."""

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = ToolChoice.NONE
    tool_name: str = ""  # with NAMED
    single_call: bool = False
    hide_reasoning: bool = False
    template_kwargs_json: str = ""

    @property
    def may_call(self) -> bool:
        """Whether the answer may hold calls."""
        return bool(self.tools) and self.choice is not ToolChoice.NONE

    @property
    def must_call(self) -> bool:
        """Whether the answer is to be calls."""
        return self.choice in (ToolChoice.REQUIRED, ToolChoice.NAMED)


class Ending(Enum):
    """How the text of a choice came to its end."""

    OVER = auto()  # the model was done
    STOPPED = auto()  # by a stop string, wherever the model was
    CUT = auto()  # by a limit, or by the caller


@dataclass(frozen=True, slots=True)
class CannotParse:
    """The request is at fault, or the model cannot do it; `parameter` is one of the request's."""

    message: str
    parameter: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """What is new in a call; id and name are in its first delta alone."""

    index: int
    id: str
    name: str
    arguments: str


class Apart(NamedTuple):
    """What was told apart from the text."""

    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()


Told = tuple[str, Apart | None]  # the text that is left, and what is not part of it


class ParserBroken(Exception):
    """A parser cannot go on with what the model wrote; another worker's could not either."""


class Parser(Protocol):
    """Reads one choice, token by token: what it tells does not depend on how they are grouped.

    To make one, or to use it, raises ParserBroken.
    """

    def feed(self, text: str, token_ids: Sequence[int]) -> Told:
        """Take a token and the text that it let out. Holds back what is not certain yet."""

    def finish(self, text: str, token_ids: Sequence[int], ending: Ending) -> Told:
        """Take the last; what is left of a call that was cut off stays out of the text."""
