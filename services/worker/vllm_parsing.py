"""vLLM's parsers behind the parser port. Importing this module imports vLLM: some seconds."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMClientError
from vllm.parser import ParserManager
from vllm.parser.abstract_parser import Parser as VllmParser
from vllm.renderers.chat_utils import make_tool_call_id
from vllm.sampling_params import StructuredOutputsParams
from vllm.tokenizers import TokenizerLike, get_tokenizer
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features

from services.worker.engine import Constraint, ConstraintKind, EngineRefused
from services.worker.parsing import (
    Apart,
    CallDelta,
    CannotParse,
    Ending,
    Parsing,
    Told,
    Tool,
    ToolChoice,
)
from services.worker.recognizing import CALL_MARKS
from services.worker.requests import Request
from services.worker.vllm_sampling import structured

_HARMONY = ("openai", "openai_gptoss")  # the names under which vLLM parses gpt-oss's format
# A small model may write whitespace for ever where a schema lets it; a tag cannot forbid it.
_MOST_WHITESPACE = 1

Classes = tuple[type[VllmParser] | None, type[VllmParser] | None, type[VllmParser] | None]


class UnknownParser(Exception):
    """vLLM has no such parser, or the model's vocabulary lacks what it needs."""


class VllmParsers:
    """One model's parsers, by vLLM's names for them; an empty name means none.

    Raises UnknownParser.
    """

    def __init__(self, tokenizer: TokenizerLike, tool_parser: str, reasoning_parser: str) -> None:
        self._tokenizer = tokenizer
        self._has_tools = bool(tool_parser)
        self._reasons = bool(reasoning_parser)
        try:
            self._for_text, self._free, self._pinned = _classes(
                tokenizer, tool_parser, reasoning_parser
            )
        except TypeError as error:  # what vLLM makes of whatever a parser does not like
            raise UnknownParser(str(error)) from error

    @classmethod
    def load(cls, model: str, tool_parser: str, reasoning_parser: str) -> "VllmParsers":
        """Those of the model in a directory, or of an id. Raises UnknownParser."""
        return cls(get_tokenizer(model), tool_parser, reasoning_parser)

    def plan(self, request: Request) -> Request | CannotParse:
        """The request as the engine is to run it, with its parser where it needs one."""
        parsing = request.parsing
        assert parsing is not None  # else nobody asks
        if parsing.may_call and not self._has_tools:
            return CannotParse("the model cannot call tools: it has no tool parser", "tools")
        unheld = next(filter(_cannot_be_held, _promised(parsing)), None)
        if unheld is not None:
            message = f"the model cannot be held to the schema of {unheld.name}"
            return CannotParse(message, "tools")
        parser = self._class(request, parsing)
        if parser is None:
            return request
        try:
            return self._planned(request, parsing, parser)
        except EngineRefused as error:
            return CannotParse(error.message, error.parameter)
        except VLLMClientError as error:
            return CannotParse(str(error.args[0]), "tools")

    def _class(self, request: Request, parsing: Parsing) -> type[VllmParser] | None:
        if not parsing.may_call:
            return self._for_text
        is_held = (
            parsing.must_call
            or parsing.single_call
            or request.sampling.constraint is not None
            or any(tool.is_strict for tool in parsing.tools)
        )
        # Once a call is held to a form at all, it is held to its whole schema.
        return self._pinned if is_held else self._free

    def _planned(
        self, request: Request, parsing: Parsing, parser: type[VllmParser]
    ) -> Request | CannotParse:
        kwargs = json.loads(parsing.template_kwargs_json or "{}")
        asked = _asked(request, parsing)
        # vLLM's lists of tools may hold other kinds, too.
        tools: Any = asked.tools
        make = partial(parser, self._tokenizer, tools, chat_template_kwargs=kwargs)
        first = make()
        asked = cast(ChatCompletionRequest, first.adjust_request(asked))  # of the kind that it got
        constraint = request.sampling.constraint
        if parsing.may_call and asked.structured_outputs is not None:
            constraint = _constraint(asked.structured_outputs)
        if parsing.must_call and constraint is None:
            message = "the model's tool parser cannot hold it to a call"
            return CannotParse(message, "tool_choice")
        # The constraint holds from the first token on, unless the model reasons before.
        reasons = self._reasons and not first.is_reasoning_end(list(request.prompt))
        return replace(
            request,
            sampling=replace(
                request.sampling, constraint=constraint, thinking=kwargs if reasons else None
            ),
            keep_special_tokens=request.keep_special_tokens or not asked.skip_special_tokens,
            parser=partial(_Reading, make, asked, list(request.prompt), parsing),
        )


class _Reading:
    """One choice as vLLM's parser reads it."""

    def __init__(
        self,
        make: "partial[VllmParser]",
        asked: ChatCompletionRequest,
        prompt: list[int],
        parsing: Parsing,
    ) -> None:
        self._make = make
        self._parser = make()
        self._parser.set_prompt_token_ids(prompt)
        self._asked = asked
        self._prompt = prompt
        self._parsing = parsing
        self._read: list[str] = []
        self._token_ids: list[int] = []
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
        if not self._indexes:
            told += self._blank if ending is Ending.CUT else self._left_over(ending)
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
        self._read.append(text)
        self._token_ids.extend(token_ids)
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

    def _left_over(self, ending: Ending) -> str:
        """What the whole answer has of text beyond what was told piece by piece."""
        if ending is Ending.STOPPED and self._parsing.must_call:
            return ""  # of a call
        _, content, calls = self._make().parse(
            "".join(self._read),
            self._asked,
            enable_auto_tools=True,
            model_output_token_ids=self._token_ids,
        )
        if calls or not content or not content.startswith(self._told):
            return ""
        if ending is Ending.STOPPED and any(mark in content for mark in CALL_MARKS):
            return ""  # of a call, which vLLM takes for text while it is not whole
        return content[len(self._told) :]


def _classes(tokenizer: TokenizerLike, tool_parser: str, reasoning_parser: str) -> Classes:
    """The class for text alone, the one for calls that are free, the one for those that are not.

    In this order, because vLLM has one class for gpt-oss, which remembers the last.
    """

    def compose(tools: str, level: str) -> type[VllmParser] | None:
        return ParserManager.get_parser(
            tool_parser_name=tools or None,
            reasoning_parser_name=reasoning_parser or None,
            enable_auto_tools=True,
            is_harmony=bool({tool_parser, reasoning_parser}.intersection(_HARMONY)),
            tool_strict_level=level,
            tokenizer=tokenizer,
        )

    return compose("", "auto"), compose(tool_parser, "auto"), compose(tool_parser, "parameter")


def _promised(parsing: Parsing) -> list[Tool]:
    """The tools whose arguments are to follow their schema whatever the model writes."""
    if not parsing.may_call:
        return []
    if parsing.choice is ToolChoice.NAMED:
        return [tool for tool in parsing.tools if tool.name == parsing.tool_name]
    return [tool for tool in parsing.tools if tool.is_strict or parsing.must_call]


def _cannot_be_held(tool: Tool) -> bool:
    """Whether xgrammar would pass over a part of the schema; vLLM does not look inside a tag."""
    return has_xgrammar_unsupported_json_features(_schema(tool))


def _asked(request: Request, parsing: Parsing) -> ChatCompletionRequest:
    """The request as vLLM's own server knows it; parsers read and change no more than this."""
    # The form is one for text, and of that there is none beside calls that must be.
    constraint = None if parsing.must_call else request.sampling.constraint
    calling: dict[str, Any] = {}
    if parsing.may_call:
        calling = {
            "tools": [_tool(tool) for tool in parsing.tools],
            "tool_choice": _choice(parsing),
            "parallel_tool_calls": not parsing.single_call,
            "structured_outputs": None if constraint is None else structured(constraint),
        }
    return ChatCompletionRequest(
        messages=[{"role": "user", "content": ""}],
        skip_special_tokens=not request.keep_special_tokens,
        **calling,
    )


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "parameters": _schema(tool), "strict": tool.is_strict}
    return {"type": "function", "function": function}


def _schema(tool: Tool) -> dict[str, Any]:
    if not tool.parameters_json:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    # Any JSON value would follow a schema that does not say it: arguments are an object.
    return {"type": "object", **json.loads(tool.parameters_json)}


def _choice(parsing: Parsing) -> str | dict[str, Any]:
    if parsing.choice is ToolChoice.NAMED:
        return {"type": "function", "function": {"name": parsing.tool_name}}
    return parsing.choice.name.lower()


def _constraint(params: StructuredOutputsParams) -> Constraint:
    """What a parser made of the constraint, in our words."""
    kind, texts = ConstraintKind.ANY_JSON_OBJECT, tuple[str, ...]()
    if params.structural_tag is not None:
        kind, texts = ConstraintKind.STRUCTURAL_TAG, (_tightened(params.structural_tag),)
    elif params.json is not None:
        schema = params.json if isinstance(params.json, str) else json.dumps(params.json)
        kind, texts = ConstraintKind.JSON_SCHEMA, (schema,)
    elif params.grammar is not None:
        kind, texts = ConstraintKind.GRAMMAR, (params.grammar,)
    elif params.regex is not None:
        kind, texts = ConstraintKind.REGEX, (params.regex,)
    elif params.choice is not None:
        kind, texts = ConstraintKind.TEXTS, tuple(params.choice)
    return Constraint(kind, texts, parameter="tools")


def _tightened(structural_tag: str) -> str:
    tag = json.loads(structural_tag)
    _bound_whitespace(tag["format"])
    return json.dumps(tag)


def _bound_whitespace(node: Any) -> None:
    """In every schema of a tag. Schemas themselves are left alone: they may hold any key."""
    if isinstance(node, list):
        for each in node:
            _bound_whitespace(each)
    elif isinstance(node, dict) and node.get("type") == "json_schema":
        node["max_whitespace_cnt"] = _MOST_WHITESPACE
    elif isinstance(node, dict):
        for each in node.values():
            _bound_whitespace(each)
