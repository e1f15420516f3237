"""The official SDK does not notice that it talks to Headway."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from tests.system import System

pytestmark = pytest.mark.vllm

HELLO = "Say hello."


@pytest.fixture
async def client(vllm_system: System) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{vllm_system.url}/v1", api_key="unused", max_retries=0
    ) as opened:
        yield opened


async def test_chat(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": HELLO}],
        temperature=0,
        max_completion_tokens=8,
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 8


async def test_a_streamed_chat_is_the_same_text(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": HELLO}],
        "temperature": 0,
        "max_tokens": 8,
    }
    whole: Any = await client.chat.completions.create(**asked)
    asked |= {"stream": True, "stream_options": {"include_usage": True}}
    stream: Any = await client.chat.completions.create(**asked)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


async def test_a_completion_and_its_stream(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "smollm2",
        "prompt": "The sea is",
        "temperature": 0,
        "max_tokens": 8,
    }
    whole: Any = await client.completions.create(**asked)
    asked["stream"] = True
    stream: Any = await client.completions.create(**asked)
    text = "".join([chunk.choices[0].text async for chunk in stream])
    assert text == whole.choices[0].text
    assert text


async def test_models(client: AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert "smollm2" in names


async def test_an_unknown_model_is_the_sdks_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError, match="smollm2"):
        await client.chat.completions.create(
            model="gpt-9", messages=[{"role": "user", "content": HELLO}]
        )


async def test_a_prompt_over_the_context_is_the_sdks_bad_request(client: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        await client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "sea " * 20_000}]
        )
    assert refused.value.code == "context_length_exceeded"
