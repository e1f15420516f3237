"""A choice whose text a parser reads: the pieces of `Choice`, with calls and reasoning apart. Pure.

The parser is fed one token at a time, so that what it tells depends on the tokens alone: a worker
that resumes a run feeds it what was generated before, and keeps to itself what comes of that.
"""

import json
from collections.abc import Sequence

from services.worker.choice import Choice, Finish, FinishReason, Piece
from services.worker.engine import Output, TokenLogprobs
from services.worker.parsing import Apart, CallDelta, Ending, Parser, Told


class ParsedChoice:
    """Turns outputs into pieces, as `Choice` does.

    `ends_as_stop`: a call that was asked for by name ends its choice as text does, with STOP.
    That is what OpenAI answers; any other call ends with TOOL_CALLS, but for one that a stop
    string cut off: there is no whole call to make.
    """

    def __init__(self, choice: Choice, parser: Parser, *, ends_as_stop: bool) -> None:
        self._choice = choice
        self._parser = parser
        self._ends_as_stop = ends_as_stop
        self._arguments: list[str] | None = None  # of the last call, as they came
        self._untold: list[int] = []  # tokens whose text is held back
        self._unplaced: list[TokenLogprobs] = []  # of tokens that told nothing yet
        self._characters = 0

    def resume(self, generated: Sequence[int], max_tokens: int) -> Piece | None:
        """Take over what another worker generated; the piece that ends it, if it was complete.

        What these tokens told, the caller has.
        """
        for token_id in generated:
            told = self._read(self._choice.advance(Output((token_id,))))
            if told.finish is not None:
                return Piece("", (), finish=told.finish)
        last = self._choice.resume((), max_tokens)
        return None if last is None else self._read(last)

    def advance(self, output: Output) -> Piece:
        """Take an output. Tokens beyond the one that completes a stop string are dropped."""
        if len(output.token_ids) <= 1:
            return self._read(self._choice.advance(output))
        pieces = []
        for single in _singles(output):
            pieces.append(self._read(self._choice.advance(single)))
            if pieces[-1].finish is not None:
                break
        return _joined(pieces)

    def abort(self) -> Piece:
        """The last piece of a choice that the caller ended."""
        return self._read(self._choice.abort())

    def _read(self, piece: Piece) -> Piece:
        finish = piece.finish
        self._untold.extend(piece.token_ids)
        self._unplaced.extend(piece.logprobs)
        # Parsers look for a mark in the text where its token comes: both come together.
        if finish is None and not piece.text:
            return Piece("", piece.token_ids)
        token_ids, self._untold = self._untold, []
        text, apart = self._tell(piece.text, token_ids, finish)
        if apart is not None:
            self._note(apart.calls)
        finish = None if finish is None else self._named(finish)
        logprobs, offsets = self._placed(text, apart)
        return Piece(text, piece.token_ids, logprobs, finish, offsets, apart)

    def _placed(
        self, text: str, apart: Apart | None
    ) -> tuple[Sequence[TokenLogprobs], Sequence[int]]:
        """The log-probabilities of the tokens that told text; those that told other things go."""
        offset = self._characters
        self._characters += len(text)
        if not text and apart is None:
            return (), ()
        logprobs, self._unplaced = self._unplaced, []
        return (logprobs, [offset] * len(logprobs)) if text else ((), ())

    def _tell(self, text: str, token_ids: Sequence[int], finish: Finish | None) -> Told:
        if finish is None:
            return self._parser.feed(text, token_ids)
        ending = Ending.CUT
        if finish.reason is FinishReason.STOP:
            ending = Ending.STOPPED if finish.stop_text else Ending.OVER
        return self._parser.finish(text, token_ids, ending)

    def _note(self, calls: Sequence[CallDelta]) -> None:
        for call in calls:
            if self._arguments is None or call.name:
                self._arguments = []
            self._arguments.append(call.arguments)

    def _named(self, finish: Finish) -> Finish:
        """The end as OpenAI names it: after a call, and not for want of tokens."""
        if finish.reason is not FinishReason.STOP or self._arguments is None or self._ends_as_stop:
            return finish
        if finish.stop_text and not _is_whole("".join(self._arguments)):
            return finish
        return Finish(
            FinishReason.TOOL_CALLS,
            finish.completion_tokens,
            finish.stop_text,
            finish.stop_token_id,
        )


def _is_whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True


def _singles(output: Output) -> list[Output]:
    """The output's tokens, an output for each; the last one has its end."""
    last = len(output.token_ids) - 1
    return [
        Output(
            (token_id,),
            end=output.end if place == last else None,
            logprobs=output.logprobs[place : place + 1],
        )
        for place, token_id in enumerate(output.token_ids)
    ]


def _joined(pieces: Sequence[Piece]) -> Piece:
    return Piece(
        "".join(piece.text for piece in pieces),
        [token_id for piece in pieces for token_id in piece.token_ids],
        tuple(each for piece in pieces for each in piece.logprobs),
        pieces[-1].finish,
        [offset for piece in pieces for offset in piece.offsets],
        _together([piece.apart for piece in pieces if piece.apart is not None]),
    )


def _together(parts: Sequence[Apart]) -> Apart | None:
    if not parts:
        return None
    calls: list[CallDelta] = []
    for part in parts:
        calls.extend(part.calls)
    return Apart("".join(part.reasoning for part in parts), tuple(calls))
