"""One answer as vLLM's parser reads it. Importing this module imports vLLM: some seconds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import structlog
from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    FunctionCall,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser.abstract_parser import Parser as VllmParser
from vllm.renderers.chat_utils import make_tool_call_id

from services.worker.parsing import Apart, CallDelta, Ending, ParserBroken, Parsing, Told
from services.worker.recognizing import CALL_MARKS

log = structlog.get_logger(service="worker")

Make = Callable[[], VllmParser]


class Reading:
    """One choice as vLLM's parser reads it."""

    def __init__(
        self,
        make: Make,
        asked: ChatCompletionRequest,
        prompt: list[int],
        parsing: Parsing,
    ) -> None:
        self._answer = _Answer(make, asked)
        with _stumbling():
            self._parser = make()
            self._parser.set_prompt_token_ids(prompt)
        self._asked = asked
        self._prompt = prompt
        self._parsing = parsing
        self._told = ""
        self._blank = ""  # before a call it is no content
        self._indexes: dict[int, int] = {}  # of the calls that are told, by the parser's own
        self._argued: set[int] = set()  # those of them that have arguments

    def feed(self, text: str, token_ids: Sequence[int]) -> Told:
        """Take a token and the text that it let out."""
        return self._tell(self._parse(text, token_ids, finished=False))

    def finish(self, text: str, token_ids: Sequence[int], ending: Ending) -> Told:
        """Take the last, and tell what vLLM's parser still holds back if it turned out as text."""
        told, apart = self._tell(self._parse(text, token_ids, finished=True))
        reasoning, calls = apart or Apart()
        if not self._indexes and ending is Ending.CUT:
            told += self._blank
        elif not self._indexes:
            rest, calls = self._left_over(ending)
            told += rest
        elif ending is not Ending.OVER:
            # Of a call that has only begun, vLLM makes up that it has no arguments.
            calls = tuple(replace(call, arguments="") if call.name else call for call in calls)
        else:
            calls += self._without_arguments()
        return told, Apart(reasoning, calls) if reasoning or calls else None

    def _without_arguments(self) -> tuple[CallDelta, ...]:
        """A call for which the model wrote none has an empty object of them."""
        missing = sorted(set(self._indexes.values()) - self._argued)
        return tuple(CallDelta(index, "", "", "{}") for index in missing)

    def _parse(self, text: str, token_ids: Sequence[int], *, finished: bool) -> DeltaMessage | None:
        self._answer.add(text, token_ids)
        with _stumbling():
            return self._parser.parse_delta(
                text, list(token_ids), self._asked, self._prompt, finished=finished
            )

    def _tell(self, delta: DeltaMessage | None) -> Told:
        if delta is None:
            return "", None
        calls = tuple(filter(None, map(self._call, delta.tool_calls)))
        reasoning = "" if self._parsing.hide_reasoning else delta.reasoning or ""
        if calls:
            self._blank = ""
        text = self._content(delta.content or "")
        return text, Apart(reasoning, calls) if reasoning or calls else None

    def _call(self, call: DeltaToolCall) -> CallDelta | None:
        """In our words; None for a call that has no name yet, or is one too many."""
        function = call.function or DeltaFunctionCall()
        arguments = function.arguments or ""
        known = self._indexes.get(call.index)
        if known is None and (not function.name or (self._indexes and self._parsing.single_call)):
            return None
        index = self._indexes.setdefault(call.index, len(self._indexes))
        if arguments:
            self._argued.add(index)
        if known is not None:
            return CallDelta(index, "", "", arguments)
        return CallDelta(index, call.id or make_tool_call_id(), function.name or "", arguments)

    def _content(self, text: str) -> str:
        if self._parsing.may_call and not self._told:
            text = self._blank + text
            if not text.strip():
                self._blank = "" if self._indexes else text
                return ""
            self._blank = ""
        self._told += text
        return text

    def _left_over(self, ending: Ending) -> tuple[str, tuple[CallDelta, ...]]:
        """What the whole answer has of text, or of calls, that was not told piece by piece."""
        if ending is Ending.STOPPED and self._parsing.must_call:
            return "", ()  # it is of a call
        _, content, calls = self._answer.parsed()
        if calls:  # vLLM finds some behind a text only when it has all of both
            return "", _whole_calls(calls, self._parsing)
        if not content.startswith(self._told):
            return "", ()
        if ending is Ending.STOPPED and any(mark in content for mark in CALL_MARKS):
            return "", ()  # of a call, which vLLM takes for text while it is not whole
        return content[len(self._told) :], ()


class Gathering:
    """One choice as vLLM's parser reads it when it has all of it: nothing is told before."""

    def __init__(
        self, make: Make, asked: ChatCompletionRequest, prompt: list[int], parsing: Parsing
    ) -> None:
        self._answer = _Answer(make, asked)
        self._parsing = parsing

    def feed(self, text: str, token_ids: Sequence[int]) -> Told:
        """Take a token and the text that it let out."""
        self._answer.add(text, token_ids)
        return "", None

    def finish(self, text: str, token_ids: Sequence[int], ending: Ending) -> Told:
        """Take the last, and tell everything; of an answer that was cut, no call."""
        self._answer.add(text, token_ids)
        reasoning, content, found = self._answer.parsed()
        calls = () if ending is Ending.CUT else _whole_calls(found, self._parsing)
        if self._parsing.hide_reasoning:
            reasoning = ""
        return content, Apart(reasoning, calls) if reasoning or calls else None


class _Answer:
    """An answer as far as it came, for vLLM to parse as a whole."""

    def __init__(self, make: Make, asked: ChatCompletionRequest) -> None:
        self._make = make
        self._asked = asked
        self._texts: list[str] = []
        self._token_ids: list[int] = []

    def add(self, text: str, token_ids: Sequence[int]) -> None:
        """Add what came."""
        self._texts.append(text)
        self._token_ids.extend(token_ids)

    def parsed(self) -> tuple[str, str, Sequence[FunctionCall]]:
        """Its reasoning, its content and its calls."""
        with _stumbling():
            reasoning, content, calls = self._make().parse(
                "".join(self._texts),
                self._asked,
                enable_auto_tools=True,
                model_output_token_ids=self._token_ids,
            )
        return reasoning or "", content or "", calls or ()


def _whole_calls(calls: Sequence[FunctionCall], parsing: Parsing) -> tuple[CallDelta, ...]:
    told = calls[:1] if parsing.single_call else calls
    return tuple(
        CallDelta(index, call.id or make_tool_call_id(), call.name, call.arguments or "{}")
        for index, call in enumerate(told)
    )


@contextmanager
def _stumbling() -> Iterator[None]:
    """The boundary: whatever a parser raises over what a model wrote ends here."""
    try:
        yield
    except Exception as error:
        log.exception("a parser broke on an answer")
        raise ParserBroken from error
