"""One choice of a request, from the engine's outputs to what the caller gets. Pure."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from services.worker.engine import End, EndReason, Output, TokenLogprobs
from services.worker.parsing import Apart
from services.worker.text import TextStream


class FinishReason(Enum):
    """Why a choice ended, as the proto names it."""

    STOP = auto()
    LENGTH = auto()
    ABORTED = auto()
    TOOL_CALLS = auto()


@dataclass(frozen=True, slots=True)
class Finish:
    """How a choice ended; at most one of the stop fields says what of the caller's stopped it."""

    reason: FinishReason
    completion_tokens: int
    stop_text: str = ""
    stop_token_id: int | None = None


class Piece(NamedTuple):
    """What is new in a choice. A tuple for the reason that Output is one."""

    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprobs] = ()
    finish: Finish | None = None
    offsets: Sequence[int] = ()  # of `logprobs`: where each token's text begins, in code points
    apart: Apart | None = None  # of the text, where a parser reads it


_REASONS = {
    EndReason.STOPPED: FinishReason.STOP,
    EndReason.LENGTH: FinishReason.LENGTH,
    EndReason.ABORTED: FinishReason.ABORTED,
}


class Choice:
    """Turns outputs into pieces. A piece with `finish` is the last; the engine may not know.

    `skipped` are the special tokens that the caller does not want to see.
    """

    def __init__(
        self, text: TextStream, include_stop: bool, skipped: Container[int] = frozenset()
    ) -> None:
        self._text = text
        self._include_stop = include_stop
        self._skipped = skipped
        self._completion_tokens = 0

    def resume(self, generated: Sequence[int], max_tokens: int) -> Piece | None:
        """Take over what another worker generated; the piece that ends it, if it was complete.

        What these tokens let out, the caller has; what they hold back comes with the next.
        """
        for token_id in generated:
            self._completion_tokens += 1
            _, match = self._text.feed(token_id)
            if match:
                return Piece("", (), finish=self._finish(FinishReason.STOP, match))
        if self._completion_tokens >= max_tokens:
            return Piece(self._text.rest(), (), finish=self._finish(FinishReason.LENGTH))
        return None

    def advance(self, output: Output) -> Piece:
        """Take an output. Tokens beyond the one that completes a stop string are dropped."""
        new = ""
        offsets: list[int] = []
        logprobs: list[TokenLogprobs] = []
        silent = self._silent_from(output)
        for place, token_id in enumerate(output.token_ids):
            self._completion_tokens += 1
            if place >= silent:
                break  # it is the last
            offset = self._text.decoded
            text, match = self._text.feed(token_id)
            if output.logprobs and not self._is_skipped(token_id, offset):
                offsets.append(offset)
                logprobs.append(output.logprobs[place])
            new += text
            if match:
                kept = place + 1
                finish = self._finish(FinishReason.STOP, match)
                return Piece(new, output.token_ids[:kept], tuple(logprobs), finish, tuple(offsets))
        if output.end is not None:
            new += self._text.rest()
        ended = self._ended(output.end)
        return Piece(new, output.token_ids, tuple(logprobs), ended, tuple(offsets))

    def abort(self) -> Piece:
        """The last piece of a choice that the caller ended."""
        return Piece(self._text.rest(), (), finish=self._finish(FinishReason.ABORTED))

    def _ended(self, end: End | None) -> Finish | None:
        if end is None:
            return None
        return Finish(
            _REASONS[end.reason], self._completion_tokens, stop_token_id=end.stop_token_id
        )

    def _silent_from(self, output: Output) -> int:
        """The place of the end token, which has no text unless the caller wants it."""
        count = len(output.token_ids)
        if output.end is None or output.end.reason is not EndReason.STOPPED:
            return count
        is_shown = self._include_stop and output.token_ids[-1] not in self._skipped
        return count if is_shown else count - 1

    def _is_skipped(self, token_id: int, offset: int) -> bool:
        """Whether this token, which began there, has no text; a parser may have let it keep it."""
        return token_id in self._skipped and self._text.decoded == offset

    def _finish(self, reason: FinishReason, stop_text: str = "") -> Finish:
        return Finish(reason, self._completion_tokens, stop_text)
