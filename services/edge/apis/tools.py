"""The tools that a model may call, in OpenAI's words, and their checks at the door. Pure."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from headway.tokenizer.v1 import tokenizer_pb2 as tokenizer
from headway.worker.v1 import worker_pb2 as worker
from services.edge.apis.refusals import Invalid
from services.edge.apis.structure import schema_at_fault

TOOLS_LIMIT = 128
# Python's `$` would let a line's end follow, and its `\Z` is nothing to others who read the schema.
Name = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}(?!\n)$")]


class ToolFunction(Struct, forbid_unknown_fields=True):
    """A function that the model may call."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, forbid_unknown_fields=True):
    """A tool of the only type there is here."""

    type: Literal["function"]
    function: ToolFunction


class NamedFunction(Struct, forbid_unknown_fields=True):
    """A function, by its name."""

    name: str


class NamedTool(Struct, forbid_unknown_fields=True):
    """The tool that the model has to call."""

    type: Literal["function"]
    function: NamedFunction


Tools = Annotated[list[Tool], Meta(min_length=1, max_length=TOOLS_LIMIT)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool


def tools_at_fault(
    tools: Sequence[Tool] | None, choice: ToolChoice | None, parallel: bool | None
) -> Invalid | None:
    """Why these tools cannot be offered so, or None."""
    if tools is None:
        return _without_tools(choice, parallel)
    names: set[str] = set()
    for position, tool in enumerate(tools):
        where = f"tools[{position}].function"
        if tool.function.name in names:
            return Invalid(f"Two tools are called `{tool.function.name}`", f"{where}.name")
        names.add(tool.function.name)
        fault = _schema_at_fault(tool.function.parameters, f"{where}.parameters")
        if fault is not None:
            return fault
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        return Invalid(f"No tool is called `{choice.function.name}`", "tool_choice")
    return None


def _without_tools(choice: ToolChoice | None, parallel: bool | None) -> Invalid | None:
    if choice not in (None, "none"):
        return Invalid("tool_choice is only allowed with tools", "tool_choice")
    if parallel is not None:
        return Invalid("parallel_tool_calls is only allowed with tools", "parallel_tool_calls")
    return None


def _schema_at_fault(parameters: dict[str, Any] | None, where: str) -> Invalid | None:
    if not parameters:
        return None
    if parameters.get("type", "object") != "object":
        return Invalid("The parameters of a function must be of type `object`", where)
    return schema_at_fault(parameters, where)


def offered(tool: Tool) -> tokenizer.Tool:
    """The tool as the chat template shows it."""
    function = tool.function
    return tokenizer.Tool(
        name=function.name,
        description=function.description or "",
        parameters_json=_schema(function),
        strict=function.strict,
    )


def parsing(
    tools: Sequence[Tool] | None,
    choice: ToolChoice | None,
    *,
    single_call: bool,
    hide_reasoning: bool,
    template_kwargs_json: str,
) -> worker.Parsing:
    """What the worker is to tell apart in the answer."""
    message = worker.Parsing(
        single_call=single_call,
        hide_reasoning=hide_reasoning,
        template_kwargs_json=template_kwargs_json,
    )
    if tools is None:
        return message
    message.tools.extend(_callable(tool) for tool in tools)
    if isinstance(choice, NamedTool):
        message.tool_choice = worker.TOOL_CHOICE_NAMED
        message.tool_name = choice.function.name
    else:
        message.tool_choice = _CHOICES[choice or "auto"]
    return message


_CHOICES = {
    "none": worker.TOOL_CHOICE_NONE,
    "auto": worker.TOOL_CHOICE_AUTO,
    "required": worker.TOOL_CHOICE_REQUIRED,
}


def _callable(tool: Tool) -> worker.Tool:
    function = tool.function
    return worker.Tool(
        name=function.name, parameters_json=_schema(function), strict=bool(function.strict)
    )


def _schema(function: ToolFunction) -> str:
    if function.parameters is None:
        return ""
    return msgspec.json.encode(function.parameters).decode()
