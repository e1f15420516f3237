"""vLLM's parsers behind the parser port. Importing this module imports vLLM: some seconds."""

import json
from dataclasses import replace
from functools import partial
from typing import Any, cast

import structlog
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMClientError
from vllm.parser import ParserManager
from vllm.parser.abstract_parser import Parser as VllmParser
from vllm.sampling_params import StructuredOutputsParams
from vllm.tokenizers import TokenizerLike, get_tokenizer
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features

from services.worker.engine import Constraint, ConstraintKind, EngineRefused
from services.worker.parsing import CannotParse, Parsing, Tool, ToolChoice
from services.worker.requests import Request
from services.worker.vllm_reading import Gathering, Reading
from services.worker.vllm_sampling import structured
from services.worker.vllm_schemas import passed_over

log = structlog.get_logger(service="worker")

_HARMONY = ("openai", "openai_gptoss")  # the names under which vLLM parses gpt-oss's format
_HARMONYS_MARKS = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
# vLLM reads these well when it has all of an answer, and not as it comes: of phi4_mini_json it then
# tells nothing at all, of jamba and functiongemma arguments that are no JSON, of hunyuan_a13b a
# mark as text.
_READ_WHOLE = ("phi4_mini_json", "jamba", "hunyuan_a13b", "functiongemma")
# A small model may write whitespace for ever where a schema lets it; a tag cannot forbid it.
_MOST_WHITESPACE = 1

Classes = tuple[type[VllmParser] | None, type[VllmParser] | None, type[VllmParser] | None]


class UnknownParser(Exception):
    """vLLM has no such parser, or the model's vocabulary lacks what it needs."""


class VllmParsers:
    """One model's parsers, by vLLM's names for them; an empty name means none.

    Raises UnknownParser.
    """

    def __init__(
        self, model: str, tokenizer: TokenizerLike, tool_parser: str, reasoning_parser: str
    ) -> None:
        self._tokenizer = tokenizer
        self._has_tools = bool(tool_parser)
        self._reasons = bool(reasoning_parser)
        self._reads_whole = tool_parser in _READ_WHOLE
        try:
            self._for_text, self._free, self._pinned = _classes(
                model, tokenizer, tool_parser, reasoning_parser
            )
        # What vLLM makes of whatever a parser does not like, and what a package that is not
        # installed comes to.
        except (TypeError, ImportError) as error:
            raise UnknownParser(str(error)) from error

    @classmethod
    def load(cls, model: str, tool_parser: str, reasoning_parser: str) -> "VllmParsers":
        """Those of the model in a directory, or of an id. Raises UnknownParser."""
        return cls(model, get_tokenizer(model), tool_parser, reasoning_parser)

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
        # Parsers are many, and read what the caller wrote: one that stumbles over it must not end
        # the pipe of all other requests.
        except Exception:
            log.exception("a parser cannot take a request")
            return CannotParse("the model's parser cannot take this request", "tools")

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

    def _reading(self, parsing: Parsing) -> type[Reading] | type[Gathering]:
        return Gathering if self._reads_whole and parsing.may_call else Reading

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
            parser_needs_special=not asked.skip_special_tokens,
            parser=partial(self._reading(parsing), make, asked, list(request.prompt), parsing),
        )


def _classes(
    model: str, tokenizer: TokenizerLike, tool_parser: str, reasoning_parser: str
) -> Classes:
    """The class for text alone, the one for calls that are free, the one for those that are not.

    In this order, because vLLM has one class for gpt-oss, which remembers the last.
    """

    is_harmony = bool({tool_parser, reasoning_parser}.intersection(_HARMONY))
    if is_harmony:
        _check_harmony(model, tokenizer)

    def compose(tools: str, level: str) -> type[VllmParser] | None:
        return ParserManager.get_parser(
            tool_parser_name=tools or None,
            reasoning_parser_name=reasoning_parser or None,
            enable_auto_tools=True,
            is_harmony=is_harmony,
            model_name=model,
            tool_strict_level=level,
            tokenizer=tokenizer,
        )

    return compose("", "auto"), compose(tool_parser, "auto"), compose(tool_parser, "parameter")


def _check_harmony(model: str, tokenizer: TokenizerLike) -> None:
    """vLLM reads gpt-oss's format by the ids of its own vocabulary, and asks nobody's."""
    vocabulary = tokenizer.get_vocab()
    missing = [mark for mark in _HARMONYS_MARKS if mark not in vocabulary]
    if missing:
        raise UnknownParser(
            f"the parser of gpt-oss's format cannot be used with the tokenizer of "
            f"{model!r}: it lacks {', '.join(missing)}"
        )


def _promised(parsing: Parsing) -> list[Tool]:
    """The tools whose arguments are to follow their schema whatever the model writes."""
    if not parsing.may_call:
        return []
    if parsing.choice is ToolChoice.NAMED:
        return [tool for tool in parsing.tools if tool.name == parsing.tool_name]
    return [tool for tool in parsing.tools if tool.is_strict or parsing.must_call]


def _cannot_be_held(tool: Tool) -> bool:
    """Whether xgrammar would pass over a part of the schema; vLLM does not look inside a tag."""
    schema = _schema(tool)
    return has_xgrammar_unsupported_json_features(schema) or bool(passed_over(schema))


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
