"""What fails, and what the client sees of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headway.scheduler.v1 import scheduler_pb2 as scheduler
from headway.worker.v1 import worker_pb2 as worker
from services.edge.tenants import read_tenants
from tests.edge.conftest import Stage, staged
from tests.edge.scripted import CONTEXT, MODEL
from tests.edge.test_generating import STORY, events_of, text_of


async def test_a_worker_that_dies_before_the_first_token_is_not_noticed(stage: Stage) -> None:
    stage.workers[0].fails_after = 0
    response = await stage.chat(headers={"X-Headway-Explain": "1"})
    body = response.json()
    assert body["choices"][0]["message"]["content"] == STORY
    assert (body["headway"]["worker"], body["headway"]["resumes"]) == ("w1", 1)
    ttft_ms = body["headway"]["ttft_ms"]
    assert ttft_ms["stages"]["resume"] > 0
    assert abs(ttft_ms["unattributed"]) < max(1.0, 0.02 * ttft_ms["total"])


async def test_a_stream_goes_on_at_the_very_token_where_its_worker_died(stage: Stage) -> None:
    stage.workers[0].fails_after = 5
    events = events_of((await stage.chat(stream=True, temperature=0)).text)
    assert text_of(events) == STORY
    resumed = stage.workers[1].asked[0]
    assert len(resumed.generated) == 5 * 4
    assert list(stage.scheduler.asked[1].excluded_workers) == ["w0"]


async def test_usage_counts_a_resumed_stream_once(stage: Stage) -> None:
    stage.workers[0].fails_after = 5
    body = (await stage.chat()).json()
    assert body["usage"]["completion_tokens"] == len(STORY)


async def test_both_placements_of_a_resumed_request_are_given_back(stage: Stage) -> None:
    stage.workers[0].fails_after = 5
    await stage.chat()
    await stage.scheduler.until(lambda scheduler: len(scheduler.finished) == 2)
    outcomes = [report.outcome for report in stage.scheduler.finished]
    assert outcomes == [scheduler.FINISH_OUTCOME_FAILED, scheduler.FINISH_OUTCOME_COMPLETED]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"seed": 1, "temperature": 1}, id="sampled-with-a-seed"),
        pytest.param({"n": 2}, id="several-choices"),
        pytest.param({"presence_penalty": 1}, id="penalised"),
        pytest.param({"response_format": {"type": "json_object"}}, id="constrained"),
    ],
)
async def test_what_cannot_go_on_exactly_ends_with_an_error(
    stage: Stage, more: dict[str, Any]
) -> None:
    stage.workers[0].fails_after = 5
    events = events_of((await stage.chat(stream=True, **more)).text)
    assert events[-1]["error"]["code"] == "stream_lost"
    assert stage.workers[1].asked == []


async def test_when_no_worker_is_left_the_stream_ends_with_an_error(stage: Stage) -> None:
    for each in stage.workers:
        each.fails_after = 5
    events = events_of((await stage.chat(stream=True)).text)
    assert text_of(events[:-1]) == STORY[:10]
    assert events[-1]["error"]["type"] == "server_error"


async def test_what_the_worker_refuses_is_a_400_even_for_a_stream(stage: Stage) -> None:
    stage.workers[0].fails_after = 0
    stage.workers[0].failure = worker.Failed(
        reason=worker.FAILURE_REASON_INVALID, message="Not so.", parameter="logit_bias"
    )
    response = await stage.chat(stream=True)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "logit_bias"
    assert stage.workers[1].asked == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_what_no_parser_can_read_is_an_error_and_asked_of_nobody_else(
    stage: Stage, stream: bool
) -> None:
    stage.workers[0].fails_after = 5
    stage.workers[0].failure = worker.Failed(
        reason=worker.FAILURE_REASON_PARSER, message="The parser broke."
    )
    response = await stage.chat(stream=stream)
    assert response.status_code == (200 if stream else 502)
    error = (events_of(response.text)[-1] if stream else response.json())["error"]
    assert (error["message"], error["type"]) == ("The parser broke.", "server_error")
    assert stage.workers[1].asked == []


async def test_a_worker_without_room_is_passed_over(stage: Stage) -> None:
    stage.workers[0].fails_after = 0
    stage.workers[0].failure = worker.Failed(reason=worker.FAILURE_REASON_UNAVAILABLE)
    assert (await stage.chat()).json()["choices"][0]["message"]["content"] == STORY


async def test_a_dead_tokenizer_is_replaced_by_the_other(stage: Stage) -> None:
    stage.tokenizers[0].dead = True
    for _ in range(3):
        assert (await stage.chat()).status_code == 200


async def test_without_any_tokenizer_the_answer_is_503(stage: Stage) -> None:
    for each in stage.tokenizers:
        each.dead = True
    response = await stage.chat()
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


async def test_a_large_prompt_shares_no_batch(stage: Stage) -> None:
    tokenizer = stage.tokenizers[0]
    tokenizer.hold_large = True
    large = asyncio.create_task(stage.chat("x" * 100_000))
    async with asyncio.timeout(5):
        await tokenizer.holds.wait()
        answers = await asyncio.gather(*(stage.chat() for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    tokenizer.release.set()
    assert (await large).status_code == 400  # longer than the context


async def test_while_the_scheduler_is_down_requests_still_flow(stage: Stage) -> None:
    assert (await stage.chat()).status_code == 200
    await stage.scheduler_server.stop(None)
    body = (await stage.chat(headers={"X-Headway-Explain": "1"})).json()
    assert body["choices"][0]["message"]["content"] == STORY
    assert body["headway"]["placement"] == {"policy": "fallback"}


async def test_a_scheduler_that_knows_nobody_yet_does_not_stop_requests(stage: Stage) -> None:
    stage.scheduler.turn_away = scheduler.TurnedAway(
        reason=scheduler.TURNED_AWAY_REASON_FLEET_EMPTY, message="Empty.", retry_after_ms=1000
    )
    body = (await stage.chat(headers={"X-Headway-Explain": "1"})).json()
    assert body["headway"]["placement"] == {"policy": "fallback"}


async def test_a_full_queue_is_429_with_retry_after(stage: Stage) -> None:
    stage.scheduler.turn_away = scheduler.TurnedAway(
        reason=scheduler.TURNED_AWAY_REASON_QUEUE_FULL, message="Full.", retry_after_ms=2500
    )
    response = await stage.chat()
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_full_queue_is_429_for_several_prompts_too(stage: Stage, stream: bool) -> None:
    stage.scheduler.turn_away = scheduler.TurnedAway(
        reason=scheduler.TURNED_AWAY_REASON_QUEUE_FULL, message="Full.", retry_after_ms=2500
    )
    body = {"model": MODEL, "prompt": ["a", "b"], "stream": stream}
    assert (await stage.client.post("/v1/completions", json=body)).status_code == 429


async def test_one_bad_prompt_of_several_is_refused_before_any_runs(stage: Stage) -> None:
    body = {"model": MODEL, "prompt": ["a", "b" * CONTEXT, "c"]}
    response = await stage.client.post("/v1/completions", json=body)
    assert response.json()["error"]["code"] == "context_length_exceeded"
    assert not stage.scheduler.asked


async def test_prompts_of_a_lost_worker_wait_for_room_that_the_others_hold(stage: Stage) -> None:
    stage.scheduler.takes_turns = True
    stage.scheduler.room = 2
    stage.workers[0].fails_after = 5
    body = {"model": MODEL, "prompt": ["a", "b", "c"]}
    async with asyncio.timeout(10):
        answer = (await stage.client.post("/v1/completions", json=body)).json()
    assert [choice["text"] for choice in answer["choices"]] == [STORY] * 3


async def test_several_prompts_of_a_client_that_leaves_are_withdrawn_or_aborted(
    stage: Stage,
) -> None:
    stage.scheduler.room = 1
    stage.workers[0].hangs_after = 0
    body = {"model": MODEL, "prompt": ["a", "b"]}
    waiting = asyncio.create_task(stage.client.post("/v1/completions", json=body))
    await stage.workers[0].until(lambda worker: worker.asked)
    waiting.cancel()
    await stage.workers[0].until(lambda worker: worker.aborted)
    await stage.scheduler.until(lambda scheduler: scheduler.withdrawn)
    placed, withdrawn = [request.request_id for request in stage.scheduler.asked]
    assert stage.scheduler.withdrawn == [withdrawn]
    assert [report.request_id for report in stage.scheduler.finished] == [placed]


async def _leave_after_first_byte(stage: Stage) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with stage.client.stream("POST", "/v1/chat/completions", json=body) as response:
        await anext(response.aiter_raw())


async def test_a_client_that_leaves_frees_its_worker(stage: Stage) -> None:
    stage.workers[0].hangs_after = 3
    await _leave_after_first_byte(stage)
    await stage.workers[0].until(lambda worker: worker.aborted)
    await stage.scheduler.until(lambda scheduler: scheduler.finished)
    assert stage.scheduler.finished[0].outcome == scheduler.FINISH_OUTCOME_CANCELLED


async def test_a_client_that_leaves_while_it_waits_is_withdrawn(stage: Stage) -> None:
    stage.scheduler.hold = True
    waiting = asyncio.create_task(stage.chat())
    await stage.scheduler.until(lambda scheduler: scheduler.asked)
    waiting.cancel()
    await stage.scheduler.until(lambda scheduler: scheduler.withdrawn)
    assert stage.scheduler.withdrawn == [stage.scheduler.asked[0].request_id]


@pytest.fixture
async def impatient() -> AsyncIterator[Stage]:
    async with staged(unread_limit=4, body_limit_bytes=500) as built:
        yield built


async def test_a_stream_that_outruns_its_reader_ends_alone(impatient: Stage) -> None:
    impatient.workers[0].in_one_frame = True
    impatient.workers[0].story = "x" * 100
    text = (await impatient.chat(stream=True)).text
    assert json.loads(text.split("\n\n")[-3].removeprefix("data: "))["error"]
    impatient.workers[0].story = "ab"
    assert (await impatient.chat()).status_code == 200


async def test_a_large_body_is_413(impatient: Stage) -> None:
    response = await impatient.chat("x" * 1000)
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param(b"{", None, id="malformed-json"),
        pytest.param(b'{"model":"story","messages":[]}', "messages", id="no-messages"),
        pytest.param(b'{"model":"story"}', "messages", id="messages-missing"),
        pytest.param(
            b'{"model":"story","messages":[{"role":"user","content":"refuse"}]}',
            "messages",
            id="refused-by-the-template",
        ),
        pytest.param(
            b'{"model":"story","messages":[{"role":"user","content":"%s"}]}' % (b"x" * 201),
            "messages",
            id="longer-than-the-context",
        ),
        pytest.param(
            b'{"model":"story","messages":[{"role":"user","content":"a"}],"max_tokens":200}',
            "messages",
            id="no-room-for-the-answer",
        ),
    ],
)
async def test_bad_input_is_a_400(stage: Stage, body: bytes, param: str | None) -> None:
    response = await stage.client.post("/v1/chat/completions", content=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == param
    assert (await stage.chat()).status_code == 200


async def test_an_unknown_model_is_a_404_that_names_the_known(stage: Stage) -> None:
    response = await stage.chat(model="nobody")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert MODEL in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/nowhere", 404),
    ],
)
async def test_other_doors(stage: Stage, method: str, path: str, status: int) -> None:
    response = await stage.client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["message"]


async def test_an_upgrade_to_a_websocket_is_an_ordinary_refusal(stage: Stage) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    response = await stage.client.get("/v1/chat/completions", headers=upgrade)
    assert response.status_code == 405


async def test_with_tenants_a_key_is_needed() -> None:
    tenants = read_tenants(b'{"tenants":[{"name":"acme","keys":["secret"]}]}')
    async with staged(tenants) as stage:
        assert (await stage.chat()).status_code == 401
        wrong = await stage.chat(headers={"Authorization": "Bearer guess"})
        assert wrong.json()["error"]["code"] == "invalid_api_key"
        right = await stage.chat(headers={"Authorization": "Bearer secret"})
        assert right.status_code == 200
        assert stage.scheduler.asked[0].tenant == "acme"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_what_outlasts_the_drain_ends_with_an_error(stage: Stage, stream: bool) -> None:
    from services.edge.listening import serving

    stage.workers[0].hangs_after = 3
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    async with serving(stage.edge, "127.0.0.1:0", drain_s=0.1) as port:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        asking = asyncio.create_task(stage.client.post(url, json=body))
        await stage.workers[0].until(lambda worker: worker.asked)
    response = await asking
    assert response.status_code == (200 if stream else 503)
    assert "The edge is shutting down." in response.text
    assert response.text.endswith("data: [DONE]\n\n") == stream


async def test_a_busy_port_is_one_clear_line(stage: Stage) -> None:
    from services.edge.listening import serving
    from services.serving import ListenError

    with pytest.raises(ListenError, match="Address already in use"):
        async with serving(stage.edge, f"127.0.0.1:{stage.port}", 1):
            pass
