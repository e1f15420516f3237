"""The Messages API, as Anthropic's SDK sees it, with scripted services behind the edge."""

from typing import Any

import pytest
from anthropic import APIStatusError, AuthenticationError, BadRequestError, NotFoundError

from headway.scheduler.v1 import scheduler_pb2 as scheduler
from headway.worker.v1 import worker_pb2 as pb
from services.edge.tenants import read_tenants
from tests.edge.conftest import Stage, staged
from tests.edge.scripted import MODEL
from tests.edge.speaking import anthropic_client, message, message_events, message_of
from tests.edge.test_responses import CALLS
from tests.edge.test_tools import SCHEMA

STORY = "once upon a time"
ASKED: Any = {
    "model": MODEL,
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}
WEATHER = {"name": "weather", "description": "Tells the weather.", "input_schema": SCHEMA}


def text_of(events: list[Any]) -> str:
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


async def test_a_message_is_answered_whole(stage: Stage) -> None:
    body = message_of(await message(stage, system="Be brief."))
    assert body["content"] == [{"type": "text", "text": STORY, "citations": None}]
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    assert body["usage"] == {
        "input_tokens": len("Be brief.hello") - 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 3,
        "output_tokens": 16,
    }


async def test_a_stream_has_every_event_in_its_place(stage: Stage) -> None:
    events = message_events(await message(stage, stream=True))
    kinds = [event["type"] for event in events]
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * len(STORY),
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert text_of(events) == STORY
    assert events[0]["message"]["usage"]["input_tokens"] == 2
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 16


async def test_the_sdk_assembles_what_is_answered_whole(stage: Stage) -> None:
    turns: Any = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": turns}
    async with anthropic_client(stage) as client:
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            assembled = await stream.get_final_message()
    assert [block.type for block in assembled.content] == ["text"]
    assert assembled.content[0].to_dict()["text"] == whole.content[0].to_dict()["text"]
    assert assembled.usage == whole.usage
    assert assembled.stop_reason == whole.stop_reason == "end_turn"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("finish", "stop_reason", "stop_sequence"),
    [
        (pb.Finish(reason=pb.FINISH_REASON_LENGTH), "max_tokens", None),
        (pb.Finish(reason=pb.FINISH_REASON_STOP), "end_turn", None),
        (pb.Finish(reason=pb.FINISH_REASON_STOP, stop_token_id=2), "end_turn", None),
        (pb.Finish(reason=pb.FINISH_REASON_STOP, stop_text="END"), "stop_sequence", "END"),
    ],
    ids=["limit", "end", "end-token", "stop-sequence"],
)
async def test_why_it_ended(
    stage: Stage, finish: pb.Finish, stop_reason: str, stop_sequence: str | None, stream: bool
) -> None:
    stage.workers[0].tells = [
        pb.Delta(text="a", started=pb.Started()),
        pb.Delta(text="b", finish=finish),
    ]
    answer = await message(stage, stop_sequences=["END"], stream=stream)
    told = message_events(answer)[-2]["delta"] if stream else message_of(answer)
    assert (told["stop_reason"], told["stop_sequence"]) == (stop_reason, stop_sequence)


async def test_calls_are_blocks_streamed_or_not(stage: Stage) -> None:
    stage.workers[0].tells = [*CALLS[1:-1], CALLS[-1]]
    tools: Any = [WEATHER]
    turns: Any = [{"role": "user", "content": "hi"}]
    whole = message_of(await message(stage, tools=tools))
    said, first, second = whole["content"]
    assert said["text"] == "Let me see."
    assert first == {
        "type": "tool_use",
        "id": "c0",
        "name": "weather",
        "input": {"city": "Rome"},
    }
    assert second["input"] == {}
    assert whole["stop_reason"] == "tool_use"
    events = message_events(await message(stage, tools=tools, stream=True))
    starts = [e["content_block"] for e in events if e["type"] == "content_block_start"]
    assert [block["type"] for block in starts] == ["text", "tool_use", "tool_use"]
    assert [e["index"] for e in events if e["type"] == "content_block_stop"] == [0, 1, 2]
    async with (
        anthropic_client(stage) as client,
        client.messages.stream(model=MODEL, max_tokens=9, messages=turns, tools=tools) as stream,
    ):
        assembled = await stream.get_final_message()
    assert [block.to_dict() for block in assembled.content[1:]] == whole["content"][1:]
    assert assembled.stop_reason == "tool_use"


async def test_a_conversation_with_tools_reaches_the_template_and_the_worker(stage: Stage) -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "c0", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c0", "content": "no", "is_error": True},
                {"type": "text", "text": "And now?", "cache_control": {"type": "ephemeral"}},
            ],
        },
    ]
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    await message(stage, turns, tools=[WEATHER], tool_choice=choice, top_k=5)
    [chat] = [item.chat for each in stage.tokenizers for item in each.asked]
    assert [m.role for m in chat.messages] == ["user", "assistant", "tool", "user"]
    assert chat.messages[1].tool_calls[0].arguments_json == '{"city":"Rome"}'
    assert (chat.messages[2].tool_call_id, chat.messages[2].content) == ("c0", "Error: no")
    generate = stage.workers[0].asked[0]
    assert generate.parsing.tool_choice == pb.TOOL_CHOICE_NAMED
    assert generate.parsing.single_call
    assert generate.parsing.hide_reasoning
    assert generate.sampling.top_k == 5


async def test_the_model_goes_on_with_what_the_last_turn_begins(stage: Stage) -> None:
    await message(
        stage, [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well,"}]
    )
    [chat] = [item.chat for each in stage.tokenizers for item in each.asked]
    assert chat.continue_final_message
    assert not chat.add_generation_prompt


async def test_tokens_are_counted_without_a_worker(stage: Stage) -> None:
    async with anthropic_client(stage) as client:
        counted = await client.messages.count_tokens(
            model=MODEL, system="abc", messages=[{"role": "user", "content": "de"}]
        )
        with pytest.raises(NotFoundError):
            await client.messages.count_tokens(
                model="nobody", messages=[{"role": "user", "content": "de"}]
            )
        with pytest.raises(BadRequestError, match="max_tokens"):
            await client.messages.count_tokens(
                model=MODEL,
                messages=[{"role": "user", "content": "de"}],
                extra_body={"max_tokens": 5},
            )
    assert counted.input_tokens == 5
    assert not stage.workers[0].asked


async def test_a_key_may_come_in_either_header() -> None:
    async with staged(read_tenants(b'{"tenants":[{"name":"a","keys":["ka"]}]}')) as stage:
        async with anthropic_client(stage, "ka") as client:
            turns: Any = [{"role": "user", "content": "hi"}]
            await client.messages.create(model=MODEL, max_tokens=9, messages=turns)
            await client.messages.count_tokens(model=MODEL, messages=turns)
            assert MODEL in [each.id async for each in client.models.list()]
            assert (await client.models.retrieve(MODEL)).id == MODEL
        answer = await message(stage, headers={"Authorization": "Bearer ka"})
        assert answer.status_code == 200
        async with anthropic_client(stage, "kb") as other:
            with pytest.raises(AuthenticationError):
                await other.messages.create(model=MODEL, max_tokens=9, messages=turns)
            with pytest.raises(AuthenticationError):
                await other.messages.count_tokens(model=MODEL, messages=turns)


async def test_a_stream_that_is_lost_ends_with_anthropics_error(stage: Stage) -> None:
    for each in stage.workers:
        each.fails_after = 3
        each.failure = pb.Failed(reason=pb.FAILURE_REASON_INVALID, message="No.")
    *parts, rest = (await message(stage, stream=True)).text.split("\n\n")
    assert rest == ""
    assert parts[-1] == (
        'event: error\ndata: {"type":"error","error":'
        '{"type":"invalid_request_error","message":"No."}}'
    )


@pytest.mark.parametrize(
    ("more", "status", "kind", "named"),
    [
        ({"max_tokens": 500}, 400, "invalid_request_error", "messages"),
        ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens"),
        ({"thinking": {"type": "enabled"}}, 400, "invalid_request_error", "thinking"),
        ({"container": "x"}, 400, "invalid_request_error", "container"),
        ({"said": "refuse"}, 400, "invalid_request_error", "messages"),
        ({"model": "nobody"}, 404, "not_found_error", "nobody"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value),
)
async def test_refusals_are_in_anthropics_words(
    stage: Stage, more: dict[str, Any], status: int, kind: str, named: str
) -> None:
    refused = await message(stage, **more)
    assert refused.status_code == status
    body = refused.json()
    assert set(body) == {"type", "error"}
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert named in body["error"]["message"]


async def test_a_full_fleet_is_overloaded_and_says_when_to_come_again(stage: Stage) -> None:
    stage.scheduler.turn_away = scheduler.TurnedAway(
        reason=scheduler.TURNED_AWAY_REASON_QUEUE_FULL, message="Full.", retry_after_ms=2500
    )
    async with anthropic_client(stage) as client:
        for stream in (False, True):
            with pytest.raises(APIStatusError, match="Full") as refused:
                await client.messages.create(**ASKED, stream=stream)
            assert (refused.value.status_code, refused.value.type) == (529, "overloaded_error")
            assert refused.value.response.headers["retry-after"] == "3"


async def test_every_answer_has_the_id_of_its_request(stage: Stage) -> None:
    async with anthropic_client(stage) as client:
        told = await client.messages.create(**ASKED)
        assert told._request_id
        assert told.id == f"msg_{told._request_id}"
        async with client.messages.stream(**ASKED) as stream:
            assert stream.request_id
        with pytest.raises(NotFoundError) as refused:
            await client.messages.count_tokens(model="nobody", messages=ASKED["messages"])
        assert refused.value.request_id


async def test_a_body_that_is_no_json_is_an_invalid_request(stage: Stage) -> None:
    answer = await stage.client.post(
        "/v1/messages", content=b"hi", headers={"content-type": "text/plain"}
    )
    assert (answer.status_code, answer.json()["error"]["type"]) == (415, "invalid_request_error")


async def test_the_wrong_method_is_refused_in_anthropics_words(stage: Stage) -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        answer = await stage.client.get(path)
        assert (answer.status_code, answer.json()["type"]) == (405, "error")


async def test_the_account_is_in_the_last_events(stage: Stage) -> None:
    explain = {"X-Headway-Explain": "1"}
    assert "headway" in message_of(await message(stage, headers=explain))
    events = message_events(await message(stage, stream=True, headers=explain))
    assert "headway" in events[-2]
