"""Tools on real vLLM, as the official SDK asks for them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # vLLM brings it, its stubs it does not
import pytest
from openai import AsyncOpenAI, BadRequestError

from tests.system import System

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "Rome", "Oslo"]},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "detailed": {"type": "boolean"},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, Any] = {"get_weather": WEATHER, "get_time": {"type": "object", "properties": {}}}
QUESTION = "What is the weather in Paris, in celsius?"


def tool(name: str, **more: Any) -> dict[str, Any]:
    described = {"name": name, "description": f"Runs {name}.", "parameters": SCHEMAS[name]}
    return {"type": "function", "function": {**described, **more}}


TOOLS = [tool("get_weather"), tool("get_time")]
ROME = {"name": "get_weather", "arguments": '{"city": "Rome", "unit": "celsius"}'}
# Even a small model calls once it has seen how.
SHOWN: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the weather in Rome, in celsius?"},
    {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": ROME}]},
    {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"},
    {"role": "assistant", "content": "It is 21 degrees in Rome."},
    {"role": "user", "content": QUESTION},
]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture
async def client(vllm_system: System) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{vllm_system.url}/v1", api_key="unused", max_retries=0
    ) as opened:
        yield opened


def asked(**more: Any) -> dict[str, Any]:
    return {
        "model": "smollm2",
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 300,
        "tools": TOOLS,
        **more,
    }


Answer = tuple[str | None, list[tuple[str, str]], str]


async def whole(client: AsyncOpenAI, **more: Any) -> Answer:
    """Content, calls and finish reason of a body."""
    [choice] = (await client.chat.completions.create(**asked(**more))).choices
    calls = choice.message.tool_calls or []
    assert all(call.id and call.type == "function" for call in calls)
    named: Any = [(call.function.name, call.function.arguments) for call in calls]
    return choice.message.content, named, choice.finish_reason


async def streamed(client: AsyncOpenAI, **more: Any) -> Answer:
    """The same of a stream, put together as applications do."""
    stream: Any = await client.chat.completions.create(**asked(stream=True, **more))
    text, reason = "", ""
    calls: list[list[str]] = []
    async for chunk in stream:
        [choice] = chunk.choices
        text += choice.delta.content or ""
        for call in choice.delta.tool_calls or ():
            if call.index == len(calls):
                assert (call.id, call.type) == (call.id or None, "function")
                calls.append([call.function.name, ""])
            calls[call.index][1] += call.function.arguments
        reason = choice.finish_reason or reason
    return text or None, [(name, arguments) for name, arguments in calls], reason


def check(calls: list[tuple[str, str]]) -> None:
    """Every call's arguments are an object that follows its schema."""
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])


@pytest.mark.parametrize(
    ("choice", "names", "reason"),
    [
        pytest.param(NAMED, ["get_weather"], "stop", id="named"),
        pytest.param("required", None, "tool_calls", id="required"),
    ],
)
async def test_a_call_that_has_to_be_made(
    client: AsyncOpenAI, choice: Any, names: list[str] | None, reason: str
) -> None:
    answer = await whole(client, tool_choice=choice)
    content, calls, finish_reason = answer
    assert content is None
    assert calls
    assert finish_reason == reason
    assert names in (None, [name for name, _ in calls])
    check(calls)
    assert await streamed(client, tool_choice=choice) == answer


@pytest.mark.parametrize("choice", ["required", "auto"])
async def test_one_call_where_they_are_not_to_be_parallel(client: AsyncOpenAI, choice: str) -> None:
    answer = await whole(client, tool_choice=choice, parallel_tool_calls=False)
    _, calls, _ = answer
    assert len(calls) <= 1
    check(calls)
    assert await streamed(client, tool_choice=choice, parallel_tool_calls=False) == answer


@pytest.mark.parametrize("strict", [False, True])
async def test_auto_answers_or_calls(client: AsyncOpenAI, strict: bool) -> None:
    tools = [tool(name, strict=strict) for name in SCHEMAS]
    answer = await whole(client, tools=tools)
    content, calls, reason = answer
    assert content or calls
    assert reason == ("tool_calls" if calls else "stop")
    check(calls)
    assert await streamed(client, tools=tools) == answer


@pytest.mark.parametrize("strict", [False, True])
async def test_auto_calls_as_the_conversation_did(client: AsyncOpenAI, strict: bool) -> None:
    more = {"messages": SHOWN, "tools": [tool(name, strict=strict) for name in SCHEMAS]}
    answer = await whole(client, **more)
    content, calls, reason = answer
    assert (content, reason) == (None, "tool_calls")
    assert [name for name, _ in calls] == ["get_weather"]
    check(calls)
    assert await streamed(client, **more) == answer


async def test_none_is_text(client: AsyncOpenAI) -> None:
    content, calls, reason = await whole(client, tool_choice="none", max_tokens=16)
    assert content
    assert (calls, reason) == ([], "length")


async def test_a_call_that_is_cut_off_is_a_beginning(client: AsyncOpenAI) -> None:
    _, [(name, arguments)], _ = await whole(client, tool_choice=NAMED)
    for most in (1, 5, 9, 14, 18):
        answer = await whole(client, tool_choice=NAMED, max_tokens=most)
        content, calls, reason = answer
        assert (content or "", reason) == ("", "length")
        for cut_name, cut in calls:
            assert cut_name == name
            assert arguments.startswith(cut)
        assert await streamed(client, tool_choice=NAMED, max_tokens=most) == (
            None,
            calls,
            "length",
        )


async def test_several_choices_each_call(client: AsyncOpenAI) -> None:
    more = asked(tool_choice=NAMED, n=2, temperature=1.0, seed=3)
    answer: Any = await client.chat.completions.create(**more)
    for choice in answer.choices:
        [call] = choice.message.tool_calls or []
        check([(call.function.name, call.function.arguments)])


async def test_what_a_tool_said_goes_back(client: AsyncOpenAI) -> None:
    first = await client.chat.completions.create(**asked(tool_choice=NAMED))
    message: Any = first.choices[0].message
    said = [
        {"role": "user", "content": QUESTION},
        message.model_dump(exclude_none=True, include={"role", "tool_calls"}),
        {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "21 degrees"},
    ]
    content, _, _ = await whole(client, messages=said, tool_choice="none", max_tokens=16)
    assert content


async def test_a_form_of_the_answer_beside_tools(client: AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await whole(client, response_format=form)
    content, calls, _ = answer
    check(calls)
    if not calls:
        jsonschema.validate(json.loads(content or ""), schema)
    assert await streamed(client, response_format=form) == answer


@pytest.mark.parametrize(
    ("more", "param"),
    [
        pytest.param({"tool_choice": "sometimes"}, "tool_choice", id="choice"),
        pytest.param({"extra_body": {"reasoning_effort": "low"}}, "reasoning_effort", id="effort"),
    ],
)
async def test_what_cannot_be_is_named(client: AsyncOpenAI, more: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        await whole(client, **more)
    assert refused.value.param == param
