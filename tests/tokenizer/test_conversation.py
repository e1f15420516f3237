import pytest

from services.tokenizer.conversation import Unreadable, offered, spoken
from services.tokenizer.prompt import Message, Tool, ToolCall


def call(arguments_json: str) -> Message:
    return Message("assistant", tool_calls=(ToolCall("id1", "weather", arguments_json),))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(
            Message("user", "Hi"),
            {"role": "user", "content": "Hi"},
            id="what-is-absent-is-left-out",
        ),
        pytest.param(
            Message("user"), {"role": "user", "content": None}, id="missing-content-is-none"
        ),
        pytest.param(
            Message("assistant", "4", reasoning_content="2 + 2"),
            {
                "role": "assistant",
                "content": "4",
                "reasoning": "2 + 2",
                "reasoning_content": "2 + 2",
            },
            id="reasoning-has-two-names",
        ),
        pytest.param(
            Message("tool", "sunny", name="weather", tool_call_id="id1"),
            {"role": "tool", "content": "sunny", "tool_call_id": "id1", "name": "weather"},
            id="a-tool-answers-a-call",
        ),
    ],
)
def test_a_message_as_templates_see_it(message: Message, expected: dict[str, str]) -> None:
    assert spoken(message) == expected


@pytest.mark.parametrize(
    ("arguments_json", "arguments"),
    [
        pytest.param('{"b": 1, "a": 2}', {"b": 1, "a": 2}, id="parsed-in-order"),
        pytest.param("", {}, id="nothing"),
        pytest.param('{"b": 1', {}, id="cut-short-by-the-model"),
        pytest.param("[1]", {}, id="not-an-object"),
    ],
)
def test_arguments_of_a_call(arguments_json: str, arguments: dict[str, int]) -> None:
    said = spoken(call(arguments_json))
    assert said["content"] == ""
    [called] = said["tool_calls"]
    assert called == {
        "id": "id1",
        "type": "function",
        "function": {"name": "weather", "arguments": arguments},
    }
    assert list(called["function"]["arguments"]) == list(arguments)


def test_a_tool_as_templates_see_it() -> None:
    tool = Tool("f", "does", '{"type": "object", "properties": {}}', strict=False)
    function = {
        "name": "f",
        "description": "does",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }
    assert offered(tool) == {"type": "function", "function": function}
    assert list(offered(tool)["function"]) == list(function)
    assert offered(Tool("f")) == {"type": "function", "function": {"name": "f"}}


def test_parameters_that_are_no_object_are_named_and_not_quoted() -> None:
    with pytest.raises(Unreadable, match=r"^the parameters of a tool must be a JSON object$"):
        offered(Tool("f", parameters_json="secret"))
