"""Who parses: the model's parsers, or nobody. Pure."""

from typing import Protocol

from services.worker.parsing import CannotParse
from services.worker.requests import Request


class Parsers(Protocol):
    """The parsers of one model."""

    def plan(self, request: Request) -> Request | CannotParse:
        """The request as the engine is to run it, with its parser where it needs one.

        It has `parsing`. A call that it must make, or must make as its schema says, becomes its
        constraint.
        """


class NoParsers:
    """For an engine whose text has no form: all of it is text, and no tool can be called."""

    def plan(self, request: Request) -> Request | CannotParse:
        """The request as it is, or why not."""
        if request.parsing is not None and request.parsing.may_call:
            return CannotParse("the model cannot call tools", "tools")
        return request
