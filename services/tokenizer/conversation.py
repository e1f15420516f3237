"""Conversations as chat templates expect them: OpenAI's shape, JSON parsed. Pure."""

import json
from typing import Any

from services.tokenizer.prompt import Message, Tool, ToolCall

JsonObject = dict[str, Any]


class Unreadable(ValueError):
    """A field cannot be given to a template. The message names the field, not its text.

    `parameter` is what of the chat is at fault, where it is not the conversation.
    """

    def __init__(self, message: str, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter


def spoken(message: Message) -> JsonObject:
    """The message as templates see it; what the caller did not say is left out.

    Follows vLLM's rules, so that the prompt is the one that vLLM's own server would make: a
    message that only calls tools has the content "", reasoning goes by both its names.
    """
    fields: JsonObject = {"role": message.role, "content": message.content}
    if message.tool_calls:
        fields["content"] = message.content or ""
        fields["tool_calls"] = [_called(call) for call in message.tool_calls]
    if message.reasoning_content is not None:
        fields["reasoning"] = fields["reasoning_content"] = message.reasoning_content
    if message.tool_call_id:
        fields["tool_call_id"] = message.tool_call_id
    if message.name:
        fields["name"] = message.name
    return fields


def offered(tool: Tool) -> JsonObject:
    """The tool as templates see it. Raises Unreadable when its parameters are not."""
    function: JsonObject = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters_json:
        what = "the parameters of a tool"
        function["parameters"] = read_object(tool.parameters_json, what)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def read_object(text: str, what: str, parameter: str = "") -> JsonObject:
    """Parse a JSON object. Raises Unreadable for any other text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{what} must be a JSON object", parameter) from error
    if not isinstance(value, dict):
        raise Unreadable(f"{what} must be a JSON object", parameter)
    return value


def _called(call: ToolCall) -> JsonObject:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": _arguments(call.arguments_json)},
    }


def _arguments(text: str) -> JsonObject:
    try:
        return read_object(text, "arguments")
    except Unreadable:
        # A model wrote this, turns ago: refusing it would end the conversation for good.
        return {}
