"""Clients of the other APIs, and what their answers must be: the official SDKs' own types."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from anthropic import AsyncAnthropic
from anthropic.types import Message, RawMessageStreamEvent
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.edge.conftest import Stage
from tests.edge.scripted import MODEL

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


@asynccontextmanager
async def openai_client(stage: Stage, key: str = "any") -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's SDK."""
    url = f"http://127.0.0.1:{stage.port}/v1"
    async with AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as opened:
        yield opened


@asynccontextmanager
async def anthropic_client(stage: Stage, key: str = "any") -> AsyncIterator[AsyncAnthropic]:
    """Anthropic's SDK."""
    url = f"http://127.0.0.1:{stage.port}"
    async with AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as opened:
        yield opened


async def respond(stage: Stage, given: Any = "hello", **more: Any) -> httpx.Response:
    """Ask for a response."""
    headers = more.pop("headers", {})
    body = {"model": MODEL, "input": given, **more}
    return await stage.client.post("/v1/responses", json=body, headers=headers)


async def message(stage: Stage, said: Any = "hello", **more: Any) -> httpx.Response:
    """Ask for a message."""
    headers = more.pop("headers", {})
    turns = said if isinstance(said, list) else [{"role": "user", "content": said}]
    body = {"model": MODEL, "messages": turns, "max_tokens": 100, **more}
    return await stage.client.post("/v1/messages", json=body, headers=headers)


def response_of(answer: httpx.Response) -> Any:
    """The response object, which is exactly one."""
    assert answer.status_code == 200, answer.text
    Response.model_validate_json(answer.content, strict=True)
    return answer.json()


def message_of(answer: httpx.Response) -> Any:
    """The message, which is exactly one."""
    assert answer.status_code == 200, answer.text
    Message.model_validate_json(answer.content, strict=True)
    return answer.json()


def response_events(answer: httpx.Response) -> list[Any]:
    """A response's events, each of its type, numbered, and then [DONE]."""
    *parts, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    events = [_read(part, _EVENT) for part in parts]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def message_events(answer: httpx.Response) -> list[Any]:
    """A message's events but for the pings, each of its type, and nothing after them."""
    *parts, rest = answer.text.split("\n\n")
    assert rest == ""
    pings = [part for part in parts if part == 'event: ping\ndata: {"type":"ping"}']
    assert pings
    return [_read(part, _MESSAGE_EVENT) for part in parts if part not in pings]


def _read(part: str, kind: TypeAdapter[Any]) -> Any:
    name, data = part.split("\n")
    kind.validate_json(data.removeprefix("data: "), strict=True)
    event = json.loads(data.removeprefix("data: "))
    assert name == f"event: {event['type']}"
    return event
