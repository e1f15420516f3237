"""What an answer says, whatever door it came by, whole or streamed; read by the SDKs' types."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx

from tests.end_to_end import strict

GREEDY = {"model": "smollm2", "temperature": 0}


class Asked(NamedTuple):
    """A request."""

    path: str
    body: dict[str, Any]

    def with_(self, **more: Any) -> "Asked":
        """The same with other parameters."""
        return Asked(self.path, {**self.body, **more})

    def streamed(self) -> "Asked":
        """The same as a stream that counts its tokens."""
        counts = self.path in ("/v1/chat/completions", "/v1/completions")
        options = {"stream_options": {"include_usage": True}} if counts else {}
        return self.with_(stream=True, **options)


class Said(NamedTuple):
    """One choice of an answer. `tokens` are what log-probabilities name, in bytes or text."""

    text: str
    calls: tuple[tuple[str, str], ...]  # name and arguments
    ended: str
    tokens: tuple[Any, ...] = ()


class Answer(NamedTuple):
    """An answer, and its tokens of input and output as they are billed."""

    choices: tuple[Said, ...]
    usage: tuple[int, int]

    @property
    def text(self) -> str:
        """Of the one choice."""
        [choice] = self.choices
        return choice.text


def chat(content: str, **more: Any) -> Asked:
    """A greedy chat."""
    says = [{"role": "user", "content": content}]
    return Asked("/v1/chat/completions", {**GREEDY, "messages": says, **more})


def completion(prompt: Any, **more: Any) -> Asked:
    """A greedy completion."""
    return Asked("/v1/completions", {**GREEDY, "prompt": prompt, **more})


def response(given: Any, **more: Any) -> Asked:
    """A greedy response."""
    return Asked("/v1/responses", {**GREEDY, "input": given, **more})


def message(content: str, **more: Any) -> Asked:
    """A greedy message."""
    says = [{"role": "user", "content": content}]
    return Asked("/v1/messages", {**GREEDY, "messages": says, **more})


async def send(client: httpx.AsyncClient, asked: Asked) -> Answer:
    """What it answers."""
    answered = await client.post(asked.path, json=asked.body)
    assert answered.status_code == 200, answered.text
    if asked.body.get("stream"):
        return _STREAMED[asked.path](strict.read_stream(asked.path, answered.text))
    return _WHOLE[asked.path](strict.read_body(asked.path, answered.text))


def at_once(url: str, asked: Mapping[str, Asked], most: int = 16) -> dict[str, Answer]:
    """The answers to all of them, by name, so many at once."""

    async def all_of_them() -> dict[str, Answer]:
        free = asyncio.Semaphore(most)

        async def one(each: Asked) -> Answer:
            async with free:
                return await send(client, each)

        limits = httpx.Limits(max_connections=most)
        async with httpx.AsyncClient(base_url=url, timeout=110, limits=limits) as client:
            answers = await asyncio.gather(*map(one, asked.values()))
        return dict(zip(asked, answers, strict=True))

    return asyncio.run(all_of_them())


def _openais(usage: Mapping[str, Any]) -> tuple[int, int]:
    prompt, completed = usage["prompt_tokens"], usage["completion_tokens"]
    assert usage["total_tokens"] == prompt + completed
    assert 0 <= usage["prompt_tokens_details"]["cached_tokens"] < prompt
    return prompt, completed


def _whole_chat(body: Any) -> Answer:
    assert [each["index"] for each in body["choices"]] == list(range(len(body["choices"])))
    return Answer(tuple(map(_chats_choice, body["choices"])), _openais(body["usage"]))


def _chats_choice(choice: Any) -> Said:
    said = choice["message"]
    calls = [each["function"] for each in said.get("tool_calls") or ()]
    entries = (choice["logprobs"] or {"content": []})["content"]
    return Said(
        said["content"] or "",
        tuple((call["name"], call["arguments"]) for call in calls),
        choice["finish_reason"],
        tuple(bytes(each["bytes"]) for each in entries),
    )


def _streamed_chat(events: list[Any]) -> Answer:
    *chunks, last = events
    assert last["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks)
    assert len({(each["id"], each["created"], each["model"]) for each in events}) == 1
    by_choice: dict[int, list[Any]] = {}
    for chunk in chunks:
        [choice] = chunk["choices"]
        by_choice.setdefault(choice["index"], []).append(choice)
    choices = [_put_together(by_choice[index]) for index in range(len(by_choice))]
    return Answer(tuple(map(_chats_choice, choices)), _openais(last["usage"]))


def _put_together(deltas: list[Any]) -> Any:
    """The choice that a stream's deltas make, put together as the API's reference says."""
    first, *_, last = deltas
    assert first["delta"]["role"] == "assistant"
    assert all(each["finish_reason"] is None for each in deltas[:-1])
    assert all("role" not in each["delta"] for each in deltas[1:])
    calls: list[dict[str, str]] = []
    for each in deltas:
        for call in each["delta"].get("tool_calls") or ():
            if call["index"] == len(calls):
                assert call["id"]
                calls.append({"name": call["function"]["name"], "arguments": ""})
            calls[call["index"]]["arguments"] += call["function"].get("arguments", "")
    told = [each["logprobs"]["content"] for each in deltas if each["logprobs"]]
    text = "".join(each["delta"].get("content") or "" for each in deltas)
    return {
        "message": {"content": text, "tool_calls": [{"function": call} for call in calls]},
        "finish_reason": last["finish_reason"],
        "logprobs": {"content": [entry for entries in told for entry in entries]},
    }


def _whole_completion(body: Any) -> Answer:
    assert [each["index"] for each in body["choices"]] == list(range(len(body["choices"])))
    return Answer(tuple(map(_completions_choice, body["choices"])), _openais(body["usage"]))


def _completions_choice(choice: Any) -> Said:
    columns = choice["logprobs"] or {"tokens": []}
    return Said(choice["text"], (), choice["finish_reason"], tuple(columns["tokens"]))


def _streamed_completion(events: list[Any]) -> Answer:
    *chunks, last = events
    assert last["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks)
    texts: dict[int, str] = {}
    tokens: dict[int, list[str]] = {}
    ended: dict[int, str] = {}
    for chunk in chunks:
        [choice] = chunk["choices"]
        index = choice["index"]
        assert index not in ended
        texts[index] = texts.get(index, "") + choice["text"]
        tokens.setdefault(index, []).extend((choice["logprobs"] or {"tokens": []})["tokens"])
        if choice["finish_reason"] is not None:
            ended[index] = choice["finish_reason"]
    choices = [
        Said(texts[index], (), ended[index], tuple(tokens[index])) for index in range(len(texts))
    ]
    return Answer(tuple(choices), _openais(last["usage"]))


def _whole_response(body: Any) -> Answer:
    usage = body["usage"]
    prompt, completed = usage["input_tokens"], usage["output_tokens"]
    assert usage["total_tokens"] == prompt + completed
    parts = [
        part
        for item in body["output"]
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    ]
    calls = [each for each in body["output"] if each["type"] == "function_call"]
    said = Said(
        "".join(part["text"] for part in parts),
        tuple((call["name"], call["arguments"]) for call in calls),
        body["status"],
        tuple(bytes(each["bytes"]) for part in parts for each in part["logprobs"]),
    )
    return Answer((said,), (prompt, completed))


def _streamed_response(events: list[Any]) -> Answer:
    """What the last event has; the deltas, and what ends each part, have to say the same."""
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    answer = _whole_response(events[-1]["response"])
    assert events[-1]["type"] == f"response.{events[-1]['response']['status']}"
    assert events[-1]["response"]["output"] == _of("response.output_item.done", "item", events)
    [said] = answer.choices
    assert "".join(_of("response.output_text.delta", "delta", events)) == said.text
    assert "".join(_of("response.output_text.done", "text", events)) == said.text
    arguments = "".join(arguments for _, arguments in said.calls)
    assert "".join(_of("response.function_call_arguments.delta", "delta", events)) == arguments
    assert "".join(_of("response.function_call_arguments.done", "arguments", events)) == arguments
    told = _of("response.output_text.delta", "logprobs", events)
    assert tuple(bytes(each["bytes"]) for entries in told for each in entries) == said.tokens
    return answer


def _of(kind: str, name: str, events: list[Any]) -> list[Any]:
    return [each[name] for each in events if each["type"] == kind]


def _whole_message(body: Any) -> Answer:
    usage = body["usage"]
    prompt = usage["input_tokens"] + usage["cache_read_input_tokens"]
    texts = [each["text"] for each in body["content"] if each["type"] == "text"]
    calls = [each for each in body["content"] if each["type"] == "tool_use"]
    said = Said(
        "".join(texts),
        tuple((call["name"], json.dumps(call["input"])) for call in calls),
        f"{body['stop_reason']} {body['stop_sequence'] or ''}",
    )
    return Answer((said,), (prompt, usage["output_tokens"]))


def _streamed_message(events: list[Any]) -> Answer:
    """The message that the events make, put together as the API's reference says."""
    kinds = [each["type"] for each in events]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    whole = events[0]["message"]
    assert whole["content"] == []
    for event in events:
        if event["type"] == "content_block_start":
            assert event["index"] == len(whole["content"])
            whole["content"].append({**event["content_block"], "json": ""})
        if event["type"] == "content_block_delta":
            block, delta = whole["content"][event["index"]], event["delta"]
            if delta["type"] == "text_delta":
                block["text"] += delta["text"]
            else:
                block["json"] += delta["partial_json"]
    for block in whole["content"]:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["json"])
    assert whole["usage"]["input_tokens"] == events[-2]["usage"]["input_tokens"]
    whole["usage"] |= events[-2]["usage"]
    return _whole_message({**whole, **events[-2]["delta"]})


_WHOLE = {
    "/v1/chat/completions": _whole_chat,
    "/v1/completions": _whole_completion,
    "/v1/responses": _whole_response,
    "/v1/messages": _whole_message,
}
_STREAMED = {
    "/v1/chat/completions": _streamed_chat,
    "/v1/completions": _streamed_completion,
    "/v1/responses": _streamed_response,
    "/v1/messages": _streamed_message,
}
