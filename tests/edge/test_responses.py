"""The Responses API, as OpenAI's SDK sees it, with scripted services behind the edge."""

from typing import Any

import pytest
from openai import BadRequestError, NotFoundError
from openai.types.responses import ResponseItemList

from headway.worker.v1 import worker_pb2 as pb
from services.edge.tenants import Tenants, read_tenants
from tests.edge.conftest import Stage, staged
from tests.edge.scripted import MODEL
from tests.edge.speaking import openai_client, respond, response_events, response_of
from tests.edge.test_tools import SCHEMA

STORY = "once upon a time"
WEATHER = {"type": "function", "name": "weather", "parameters": SCHEMA}


def kinds(events: list[Any]) -> list[str]:
    """The events' types, a run of deltas as one."""
    found: list[str] = []
    for event in events:
        name = event["type"].removeprefix("response.")
        if not (found and found[-1] == name and name.endswith(".delta")):
            found.append(name)
    return found


async def test_a_response_is_answered_whole(stage: Stage) -> None:
    body = response_of(await respond(stage, instructions="Be brief.", metadata={"a": "b"}))
    [item] = body["output"]
    assert item["role"] == "assistant"
    assert item["content"] == [
        {"type": "output_text", "text": STORY, "annotations": [], "logprobs": []}
    ]
    assert (body["status"], item["status"]) == ("completed", "completed")
    assert body["incomplete_details"] is None
    assert (body["instructions"], body["metadata"]) == ("Be brief.", {"a": "b"})
    assert body["usage"] == {
        "input_tokens": len("Be brief.hello"),
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 16,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 30,
    }


async def test_a_stream_has_every_event_in_its_place(stage: Stage) -> None:
    events = response_events(await respond(stage, stream=True))
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert text == STORY
    assert events[-4]["text"] == STORY
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


async def test_a_stream_ends_with_the_response_that_is_answered_whole(stage: Stage) -> None:
    asked: dict[str, Any] = {"temperature": 0.5, "user": "someone", "service_tier": "flex"}
    whole = response_of(await respond(stage, **asked))
    streamed = response_events(await respond(stage, **asked, stream=True))[-1]["response"]
    assert streamed["service_tier"] == "flex"
    for response in (whole, streamed):
        for own in (response, response["output"][0]):
            own["id"] = own["created_at"] = "its own"
    assert streamed == whole


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_what_a_limit_cut_is_incomplete_and_says_why(stage: Stage, stream: bool) -> None:
    answer = await respond(stage, max_output_tokens=4, stream=stream)
    if stream:
        last = response_events(answer)[-1]
        assert last["type"] == "response.incomplete"
        body = last["response"]
    else:
        body = response_of(answer)
    assert body["status"] == body["output"][0]["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"][0]["content"][0]["text"] == STORY[:4]
    assert body["usage"]["output_tokens"] == 4


async def test_the_sdk_assembles_the_stream(stage: Stage) -> None:
    async with (
        openai_client(stage) as client,
        client.responses.stream(model=MODEL, input="hello") as stream,
    ):
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert events[-1].type == "response.completed"
    assert final.output_text == STORY


async def test_the_lane_writes_what_the_task_would(stage: Stage) -> None:
    stage.workers[0].width = 3
    events = response_events(await respond(stage, stream=True))
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(each["delta"] for each in deltas) == "".join(c * 3 for c in STORY)
    assert {each["item_id"] for each in deltas} == {events[2]["item"]["id"]}
    assert events[-4]["text"] == "".join(c * 3 for c in STORY)


async def test_log_probabilities_are_included_where_they_are_asked_for(stage: Stage) -> None:
    asked: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    whole = response_of(await respond(stage, **asked))["output"][0]["content"][0]["logprobs"]
    events = response_events(await respond(stage, **asked, stream=True))
    streamed = [x for event in events for x in event.get("logprobs", []) if "delta" in event]
    assert streamed == whole
    assert "".join(each["token"] for each in whole) == STORY
    assert len(whole[0]["top_logprobs"]) == 1


async def test_the_parameters_reach_the_worker(stage: Stage) -> None:
    schema = {"type": "json_schema", "name": "x", "schema": SCHEMA}
    await respond(
        stage, max_output_tokens=9, temperature=0, top_p=0.5, text={"format": schema}, seed=7
    )
    sampling = stage.workers[0].asked[0].sampling
    assert sampling.max_tokens == 9
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0, 0.5, 7)
    assert sampling.constraint.json_schema


async def test_a_response_is_kept_read_continued_and_deleted(stage: Stage) -> None:
    async with openai_client(stage) as client:
        first = await client.responses.create(model=MODEL, input="a", instructions="Be brief.")
        again = await client.responses.retrieve(first.id)
        assert again == first
        second = await client.responses.create(
            model=MODEL, input="b", previous_response_id=first.id
        )
        assert second.previous_response_id == first.id
        asked = [item.chat for each in stage.tokenizers for item in each.asked]
        assert [(m.role, m.content) for m in asked[-1].messages] == [
            ("user", "a"),
            ("assistant", STORY),
            ("user", "b"),
        ]
        await client.responses.delete(first.id)
        with pytest.raises(NotFoundError, match="not found"):
            await client.responses.retrieve(first.id)
        third = await client.responses.create(
            model=MODEL, input="c", previous_response_id=second.id
        )
    assert third.usage is not None
    assert third.usage.input_tokens == 1 + 16 + 1 + 16 + 1


async def test_a_streamed_response_is_kept_too(stage: Stage) -> None:
    last = response_events(await respond(stage, stream=True))[-1]
    kept = await stage.client.get(f"/v1/responses/{last['response']['id']}")
    assert kept.json() == last["response"]


async def test_what_is_not_to_be_kept_is_not(stage: Stage) -> None:
    async with openai_client(stage) as client:
        first = await client.responses.create(model=MODEL, input="a", store=False)
        assert first.to_dict()["store"] is False
        with pytest.raises(BadRequestError) as refused:
            await client.responses.create(model=MODEL, input="b", previous_response_id=first.id)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"


async def test_a_tenant_has_nobody_elses_responses() -> None:
    entries = b'{"tenants":[{"name":"a","keys":["ka"]},{"name":"b","keys":["kb"]}]}'
    tenants: Tenants = read_tenants(entries)
    async with staged(tenants) as stage:
        async with openai_client(stage, "ka") as client:
            first = await client.responses.create(model=MODEL, input="a")
        async with openai_client(stage, "kb") as other:
            with pytest.raises(NotFoundError):
                await other.responses.retrieve(first.id)
            with pytest.raises(NotFoundError):
                await other.responses.delete(first.id)
            with pytest.raises(BadRequestError):
                await other.responses.create(model=MODEL, input="b", previous_response_id=first.id)


async def test_an_edge_without_room_keeps_nothing_and_says_so() -> None:
    async with staged(responses_store_bytes=0) as stage:
        assert response_of(await respond(stage))["store"] is False
        refused = await respond(stage, store=True)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "store")


async def test_a_response_that_is_over_cannot_be_cancelled(stage: Stage) -> None:
    async with openai_client(stage) as client:
        first = await client.responses.create(model=MODEL, input="a")
        with pytest.raises(BadRequestError, match="cancelled"):
            await client.responses.cancel(first.id)
        with pytest.raises(NotFoundError):
            await client.responses.cancel("resp_unknown")


async def test_a_stream_that_is_lost_ends_as_failed(stage: Stage) -> None:
    for each in stage.workers:
        each.fails_after = 3
    answer = await respond(stage, stream=True, seed=1)
    events = response_events(answer)
    assert events[-1]["type"] == "response.failed"
    response = events[-1]["response"]
    assert response["error"]["code"] == "server_error"
    assert response["output"][0]["status"] == "incomplete"
    found = await stage.client.get(f"/v1/responses/{response['id']}")
    assert found.status_code == 404


async def test_the_account_is_in_the_last_event(stage: Stage) -> None:
    explain = {"X-Headway-Explain": "1"}
    assert "headway" in response_of(await respond(stage, headers=explain))
    events = response_events(await respond(stage, stream=True, headers=explain))
    assert "headway" in events[-1]["response"]


CALLS = [
    pb.Delta(reasoning="hm", started=pb.Started()),
    pb.Delta(text="Let me see."),
    pb.Delta(tool_calls=[pb.ToolCallDelta(index=0, id="c0", name="weather", arguments='{"ci')]),
    pb.Delta(tool_calls=[pb.ToolCallDelta(index=0, arguments='ty":"Rome"}')]),
    pb.Delta(
        tool_calls=[pb.ToolCallDelta(index=1, id="c1", name="weather", arguments="{}")],
        finish=pb.Finish(reason=pb.FINISH_REASON_TOOL_CALLS, completion_tokens=9),
    ),
]


async def test_calls_are_items_streamed_or_not(stage: Stage) -> None:
    stage.workers[0].tells = CALLS
    whole = response_of(await respond(stage, tools=[WEATHER]))
    thought, said, first, second = whole["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert said["content"][0]["text"] == "Let me see."
    assert (first["call_id"], first["name"], first["arguments"]) == (
        "c0",
        "weather",
        '{"city":"Rome"}',
    )
    assert (second["call_id"], second["arguments"]) == ("c1", "{}")
    events = response_events(await respond(stage, tools=[WEATHER], stream=True))
    streamed = events[-1]["response"]["output"]
    assert [{**item, "id": ""} for item in streamed] == [
        {**item, "id": ""} for item in whole["output"]
    ]
    assert [e["item"] for e in events if e["type"] == "response.output_item.done"] == streamed
    done = [e for e in events if e["type"] == "response.function_call_arguments.done"]
    assert [(e["name"], e["arguments"]) for e in done] == [
        ("weather", '{"city":"Rome"}'),
        ("weather", "{}"),
    ]
    assert kinds(events)[-9:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


async def test_the_sdk_assembles_calls(stage: Stage) -> None:
    stage.workers[0].tells = CALLS
    async with openai_client(stage) as client:
        tools: Any = [WEATHER]
        async with client.responses.stream(model=MODEL, input="hi", tools=tools) as stream:
            final = await stream.get_final_response()
    assert [item.type for item in final.output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]


async def test_a_conversation_goes_on_with_the_results_of_calls(stage: Stage) -> None:
    stage.workers[0].tells = CALLS
    first = response_of(await respond(stage, "hi", tools=[WEATHER]))
    result = {"type": "function_call_output", "call_id": "c0", "output": "sunny"}
    await respond(stage, [result], tools=[WEATHER], previous_response_id=first["id"])
    asked = [item.chat for each in stage.tokenizers for item in each.asked][-1]
    assert [m.role for m in asked.messages] == ["user", "assistant", "tool"]
    assert [call.id for call in asked.messages[1].tool_calls] == ["c0", "c1"]
    assert asked.messages[1].reasoning_content == "hm"
    assert (asked.messages[2].tool_call_id, asked.messages[2].content) == ("c0", "sunny")
    assert [tool.name for tool in asked.tools] == ["weather"]


async def test_the_items_that_a_response_answers_are_listed(stage: Stage) -> None:
    stage.workers[0].tells = CALLS
    given = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
        {"role": "assistant", "content": "Hello."},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "?"}]},
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
    ]
    first = response_of(await respond(stage, given))
    again = {"previous_response_id": first["id"], "store": True}
    second = response_of(await respond(stage, "And now?", **again))
    path = f"/v1/responses/{second['id']}/input_items"
    answer = await stage.client.get(path, params={"order": "asc"})
    ResponseItemList.model_validate_json(answer.content, strict=True)
    listed = answer.json()["data"]
    assert listed[6:-1] == first["output"]
    assert listed[-1] == {
        "id": listed[-1]["id"],
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "And now?"}],
    }
    assert listed[2]["content"] == [
        {"type": "output_text", "text": "Hello.", "annotations": [], "logprobs": []}
    ]
    assert len({each["id"] for each in listed}) == len(listed) == 11
    async with openai_client(stage) as client:
        pages = client.responses.input_items.list(second["id"], limit=2)
        assert [item.id async for item in pages] == [each["id"] for each in reversed(listed)]


async def test_what_is_kept_can_be_referred_to(stage: Stage) -> None:
    stage.workers[0].tells = CALLS
    first = response_of(await respond(stage, "hi", tools=[WEATHER]))
    items = await stage.client.get(f"/v1/responses/{first['id']}/input_items")
    [asked] = items.json()["data"]
    given = [
        {"type": "item_reference", "id": asked["id"]},
        *({"type": "item_reference", "id": item["id"]} for item in first["output"]),
        {"type": "function_call_output", "call_id": "c0", "output": "sunny"},
    ]
    response_of(await respond(stage, given, tools=[WEATHER]))
    chat = [item.chat for each in stage.tokenizers for item in each.asked][-1]
    assert [m.role for m in chat.messages] == ["user", "assistant", "tool"]
    assert chat.messages[1].reasoning_content == "hm"
    assert [call.id for call in chat.messages[1].tool_calls] == ["c0", "c1"]


@pytest.mark.parametrize("item_id", ["msg_unknown_0", "nonsense", ""])
async def test_what_is_not_kept_cannot_be_referred_to(stage: Stage, item_id: str) -> None:
    refused = await respond(stage, [{"type": "item_reference", "id": item_id}])
    assert refused.status_code == 404
    assert refused.json()["error"]["param"] == "input"
    wrong = await respond(stage, [{"type": "item_reference", "id": 3}])
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "input[0].id")


async def test_a_kept_response_answers_to_head(stage: Stage) -> None:
    first = response_of(await respond(stage))
    head = await stage.client.head(f"/v1/responses/{first['id']}")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"given": "x" * 500}, "input"),
        ({"given": "refuse"}, "input"),
        ({"max_output_tokens": 500}, "input"),
        ({"given": []}, "input"),
        ({"model": "nobody"}, "model"),
        ({"background": True}, "background"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_refused_names_the_responses_parameter(
    stage: Stage, more: dict[str, Any], param: str
) -> None:
    refused = await respond(stage, **more)
    assert refused.status_code in (400, 404)
    assert refused.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/responses", 405),
        ("GET", "/v1/responses/resp_x", 404),
        ("GET", "/v1/responses/", 404),
        ("GET", "/v1/responses/resp_x/input_items", 404),
        ("GET", "/v1/responses/resp_x/items", 404),
        ("POST", "/v1/responses/resp_x", 405),
        ("GET", "/v1/responses/resp_x?stream=true", 400),
    ],
)
async def test_paths_and_methods(stage: Stage, method: str, path: str, status: int) -> None:
    answer = await stage.client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
