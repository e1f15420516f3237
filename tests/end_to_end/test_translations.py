"""Responses and Messages on real vLLM, asked by the official SDKs: the same text as a chat's."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from openai.types.responses import Response
from pydantic import TypeAdapter

from tests.end_to_end.asking import chat
from tests.system import System

pytestmark = pytest.mark.vllm

HELLO = "Say hello."
GREEDY = {"temperature": 0}  # which Anthropic's SDK no longer has
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.fixture
async def openai(vllm_system: System) -> AsyncIterator[AsyncOpenAI]:
    url = f"{vllm_system.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as opened:
        yield opened


@pytest.fixture
async def anthropic(vllm_system: System) -> AsyncIterator[AsyncAnthropic]:
    url = vllm_system.url
    async with AsyncAnthropic(base_url=url, api_key="unused", max_retries=0) as opened:
        yield opened


@pytest.fixture
def whole(vllm_system: System) -> Any:
    """The chat that the others are translations of."""
    with httpx.Client(base_url=vllm_system.url, timeout=60) as client:
        return chat(client, HELLO, max_tokens=12)


async def test_a_response_is_the_chats_text_streamed_or_not(
    openai: AsyncOpenAI, whole: Any
) -> None:
    asked: dict[str, Any] = {
        "model": "smollm2",
        "input": HELLO,
        "temperature": 0,
        "max_output_tokens": 12,
    }
    response: Any = await openai.responses.create(**asked)
    TypeAdapter(Response).validate_json(response.to_json(), strict=True)
    stream: Any = await openai.responses.create(**asked, stream=True)
    streamed = [event async for event in stream][-1].response  # the helper knows no incomplete one
    assert response.output_text == streamed.output_text == whole["choices"][0]["message"]["content"]
    assert response.usage.input_tokens == whole["usage"]["prompt_tokens"]
    assert response.usage.output_tokens == whole["usage"]["completion_tokens"]
    is_cut = whole["choices"][0]["finish_reason"] == "length"
    assert response.status == streamed.status == ("incomplete" if is_cut else "completed")


async def test_a_conversation_goes_on_from_a_kept_response(openai: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "smollm2", "temperature": 0, "max_output_tokens": 8}
    first: Any = await openai.responses.create(input=HELLO, **asked)
    kept: Any = await openai.responses.create(
        input="Again.", previous_response_id=first.id, **asked
    )
    turns: Any = [
        {"role": "user", "content": HELLO},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "Again."},
    ]
    told: Any = await openai.responses.create(input=turns, store=False, **asked)
    assert kept.output_text == told.output_text


async def test_a_response_calls_the_function_it_has_to(openai: AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
    asked: dict[str, Any] = {"model": "smollm2", "input": "The weather in Rome?", "temperature": 0}
    asked |= {"tools": [tool], "tool_choice": {"type": "function", "name": "weather"}}
    response: Any = await openai.responses.create(**asked)
    async with openai.responses.stream(**asked) as stream:
        streamed: Any = await stream.get_final_response()
    for each in (response, streamed):
        [call] = each.output
        assert call.type == "function_call"
        assert set(json.loads(call.arguments)) == {"city"}


async def test_a_message_is_the_chats_text_streamed_or_not(
    anthropic: AsyncAnthropic, whole: Any
) -> None:
    turns: Any = [{"role": "user", "content": HELLO}]
    asked: dict[str, Any] = {"model": "smollm2", "messages": turns, "extra_body": GREEDY}
    message: Any = await anthropic.messages.create(max_tokens=12, **asked)
    async with anthropic.messages.stream(max_tokens=12, **asked) as stream:
        streamed: Any = await stream.get_final_message()
    text = whole["choices"][0]["message"]["content"]
    for each in (message, streamed):
        [block] = each.content
        assert (block.type, block.text) == ("text", text)
        assert each.usage.output_tokens == whole["usage"]["completion_tokens"]
    counted = await anthropic.messages.count_tokens(model="smollm2", messages=turns)
    assert counted.input_tokens == whole["usage"]["prompt_tokens"]
    used = message.usage
    cached = used.cache_read_input_tokens or 0
    assert used.input_tokens + cached == counted.input_tokens


async def test_a_message_names_the_sequence_that_stopped_it(
    anthropic: AsyncAnthropic, whole: Any
) -> None:
    text: str = whole["choices"][0]["message"]["content"]
    stop = text[3:6]
    turns: Any = [{"role": "user", "content": HELLO}]
    message: Any = await anthropic.messages.create(
        model="smollm2", messages=turns, max_tokens=12, stop_sequences=[stop], extra_body=GREEDY
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    [block] = message.content
    assert (block.type, block.text) == ("text", text[: text.index(stop)])


async def test_a_message_uses_the_tool_it_has_to(anthropic: AsyncAnthropic) -> None:
    tools: Any = [{"name": "weather", "input_schema": WEATHER}]
    turns: Any = [{"role": "user", "content": "The weather in Rome?"}]
    choice: Any = {"type": "tool", "name": "weather"}
    message: Any = await anthropic.messages.create(
        model="smollm2",
        messages=turns,
        max_tokens=60,
        extra_body=GREEDY,
        tools=tools,
        tool_choice=choice,
    )
    [block] = message.content
    assert block.type == "tool_use"
    assert set(block.input) == {"city"}
    assert message.stop_reason == "tool_use"
