"""Chat and plain completions through real sockets, with scripted services behind the edge."""

import asyncio
import json
from typing import Any

import pytest

from headway.worker.v1 import worker_pb2 as pb
from tests.edge.conftest import Stage
from tests.edge.scripted import ADAPTER, MODEL

STORY = "once upon a time"
USER = {"role": "user", "content": "hi"}


def events_of(text: str) -> list[Any]:
    """The JSON of each event; the stream ends with [DONE]."""
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def text_of(events: list[Any]) -> str:
    return "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"])


async def test_a_chat_is_answered_whole(stage: Stage) -> None:
    response = await stage.chat()
    body = response.json()
    assert response.status_code == 200
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": STORY,
        "refusal": None,
    }
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 16,
        "total_tokens": 21,
        "prompt_tokens_details": {"cached_tokens": 3},
    }


async def test_a_stream_holds_the_same_text_and_ends_with_its_reason(stage: Stage) -> None:
    response = await stage.chat(stream=True)
    events = events_of(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text_of(events) == STORY
    assert [e["choices"][0]["finish_reason"] for e in events][-1] == "stop"
    assert all("usage" not in event for event in events)


async def test_include_usage_adds_one_event_and_null_to_the_others(stage: Stage) -> None:
    response = await stage.chat(stream=True, stream_options={"include_usage": True}, max_tokens=4)
    *events, last = events_of(response.text)
    assert all(event["usage"] is None for event in events)
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4


async def test_every_choice_has_its_index_role_and_reason(stage: Stage) -> None:
    response = await stage.chat(stream=True, n=3)
    choices = [event["choices"][0] for event in events_of(response.text)]
    for index in range(3):
        own = [choice for choice in choices if choice["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(c["delta"].get("content", "") for c in own) == STORY
        assert [c["finish_reason"] for c in own if c["finish_reason"]] == ["stop"]


@pytest.mark.parametrize("prompt", ["abc", [97, 98, 99]], ids=["a-text", "token-ids"])
async def test_a_completion_takes(stage: Stage, prompt: Any) -> None:
    response = await stage.client.post("/v1/completions", json={"model": MODEL, "prompt": prompt})
    body = response.json()
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == STORY
    assert body["usage"]["prompt_tokens"] == 3


async def test_several_prompts_are_several_choices_in_order(stage: Stage) -> None:
    body = {"model": MODEL, "prompt": ["a", "bcd"], "n": 2, "max_tokens": 4}
    answer = (await stage.client.post("/v1/completions", json=body)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 4
    assert answer["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_more_prompts_than_the_fleet_has_room_for_take_turns(
    stage: Stage, stream: bool
) -> None:
    stage.scheduler.room = 2
    prompts = ["abc", "d", "ef", "g", "h"]
    async with asyncio.timeout(10):
        answer = await complete(stage, prompt=prompts, echo=True, stream=stream)
    choices = [e["choices"][0] for e in answer] if stream else answer["choices"]
    told = ["".join(c["text"] for c in choices if c["index"] == index) for index in range(5)]
    assert told == [prompt + STORY for prompt in prompts]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop"] * 5


@pytest.mark.parametrize("top_k", [-1, 0])
async def test_a_top_k_of_all_tokens_is_none(stage: Stage, top_k: int) -> None:
    await complete(stage, prompt="a", top_k=top_k)
    assert not stage.workers[0].asked[0].sampling.HasField("top_k")


async def test_parameters_reach_the_worker_and_absent_ones_stay_absent(stage: Stage) -> None:
    await stage.chat(
        temperature=0, top_k=-1, stop="zz", logit_bias={"7": -1.5}, max_completion_tokens=9
    )
    sampling = stage.workers[0].asked[0].sampling
    assert sampling.HasField("temperature")
    assert sampling.temperature == 0
    assert not sampling.HasField("top_p")
    assert not sampling.HasField("top_k")
    assert list(sampling.stop) == ["zz"]
    assert dict(sampling.logit_bias) == {7: -1.5}
    assert sampling.max_tokens == 9


async def test_log_probabilities_are_the_same_streamed_or_not(stage: Stage) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 1}
    whole = (await stage.chat(**asked)).json()["choices"][0]["logprobs"]["content"]
    events = events_of((await stage.chat(**asked, stream=True)).text)
    told = [e["choices"][0]["logprobs"] for e in events]
    streamed = [each for one in told if one is not None for each in one["content"]]
    assert streamed == whole
    assert bytes(byte for each in whole for byte in each["bytes"]).decode() == STORY
    assert whole[0] == {
        "token": "o",
        "logprob": -1.0,
        "bytes": [111],
        "top_logprobs": [{"token": "o", "logprob": -1.0, "bytes": [111]}],
    }


async def test_every_event_may_tell_the_usage_so_far(stage: Stage) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    response = await stage.chat(stream=True, stream_options=options)
    counts = [event["usage"]["completion_tokens"] for event in events_of(response.text)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 16)


async def complete(stage: Stage, **more: Any) -> Any:
    response = await stage.client.post("/v1/completions", json={"model": MODEL, **more})
    assert response.status_code == 200, response.text
    return events_of(response.text) if more.get("stream") else response.json()


@pytest.mark.parametrize("prompt", ["abc", [97, 98, 99]], ids=["a-text", "token-ids"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_echo_goes_before_the_text(stage: Stage, prompt: Any, stream: bool) -> None:
    answer = await complete(stage, prompt=prompt, echo=True, logprobs=1, stream=stream)
    choices = [e["choices"][0] for e in answer] if stream else answer["choices"]
    assert "".join(choice["text"] for choice in choices) == "abc" + STORY
    told = [choice["logprobs"] for choice in choices if choice["logprobs"] is not None]
    offsets = [each for one in told for each in one["text_offset"]]
    assert offsets == list(range(3 + len(STORY)))
    assert "".join(each for one in told for each in one["tokens"]) == "abc" + STORY


async def test_an_echo_alone_costs_no_token(stage: Stage) -> None:
    answer = await complete(stage, prompt=["abc", "d"], echo=True, logprobs=0, max_tokens=0)
    assert [choice["text"] for choice in answer["choices"]] == ["abc", "d"]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length"] * 2
    assert answer["choices"][0]["logprobs"]["tokens"] == list("abc")
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["usage"]["total_tokens"] == 4


async def test_prompt_logprobs_are_vllms(stage: Stage) -> None:
    value = {"logprob": -1.0, "rank": 1, "decoded_token": "b"}
    answer = await complete(stage, prompt="ab", prompt_logprobs=1)
    assert answer["choices"][0]["prompt_logprobs"][1] == {str(ord("b")): value}
    chat = (await stage.chat(prompt_logprobs=1)).json()
    assert len(chat["prompt_logprobs"]) == chat["usage"]["prompt_tokens"]


async def test_the_tier_is_in_the_answer_and_its_priority_on_the_way(stage: Stage) -> None:
    whole = (await stage.chat(service_tier="flex")).json()
    events = events_of((await stage.chat(service_tier="flex", stream=True)).text)
    assert {each["service_tier"] for each in (whole, *events)} == {"flex"}
    assert [each.priority for each in stage.workers[0].asked] == [1, 1]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_explain_shows_stages_that_add_up(stage: Stage, stream: bool) -> None:
    response = await stage.chat(stream=stream, headers={"X-Headway-Explain": "1"})
    answer = events_of(response.text)[-1] if stream else response.json()
    explained = answer["headway"]
    ttft_ms = explained["ttft_ms"]
    assert explained["worker"] == "w0"
    assert explained["placement"]["policy"] == "first"
    assert explained["cached_tokens"] == 3
    assert len(ttft_ms["stages"]) == 14
    total = sum(ttft_ms["stages"].values()) + ttft_ms["unattributed"]
    assert total == pytest.approx(ttft_ms["total"], abs=0.02)  # each is rounded to a thousandth


async def test_without_being_asked_nothing_is_explained(stage: Stage) -> None:
    assert "headway" not in (await stage.chat()).json()


async def test_the_account_is_kept_for_the_operator(stage: Stage) -> None:
    explained = (await stage.chat(headers={"X-Headway-Explain": "1"})).json()["headway"]
    ledgers = (await stage.client.get("/headway/ledgers")).json()
    assert ledgers[0]["request_id"] == explained["request_id"]
    one = await stage.client.get(f"/headway/ledgers/{explained['trace_id']}")
    assert one.json() == ledgers[0]
    assert (await stage.client.get("/headway/ledgers/nobody")).status_code == 404


async def test_the_clients_traceparent_names_the_trace(stage: Stage) -> None:
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "X-Headway-Explain": "1"}
    explained = (await stage.chat(headers=headers)).json()["headway"]
    assert explained["trace_id"] == "a" * 32


async def test_the_clients_request_id_comes_back(stage: Stage) -> None:
    response = await stage.chat(headers={"X-Request-Id": "mine"})
    assert response.headers["x-request-id"] == "mine"


async def test_requests_that_meet_leave_in_one_batch(stage: Stage) -> None:
    await asyncio.gather(*(stage.chat(max_tokens=1) for _ in range(24)))
    batches = stage.tokenizers[0].batches + stage.tokenizers[1].batches
    assert sum(batches) == 24
    assert max(batches) > 1


async def test_the_placement_is_given_back_with_its_measured_ttft(stage: Stage) -> None:
    await stage.chat()
    await stage.scheduler.until(lambda scheduler: scheduler.finished)
    report = stage.scheduler.finished[0]
    assert report.request_id == stage.scheduler.asked[0].request_id
    assert report.completion_tokens == 16
    assert report.HasField("actual_ttft_ms")


async def test_models_are_those_that_are_ready(stage: Stage) -> None:
    body = (await stage.client.get("/v1/models")).json()
    facts = [(model["id"], model["max_model_len"], model.get("parent")) for model in body["data"]]
    assert facts == [(ADAPTER, 200, MODEL), (MODEL, 200, None)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_adapter_is_asked_for_by_its_name(stage: Stage, stream: bool) -> None:
    response = await stage.chat(model=ADAPTER, stream=stream)
    body = events_of(response.text)[0] if stream else response.json()
    assert body["model"] == ADAPTER
    asked: list[Any] = [
        stage.scheduler.asked[0],
        next(each for each in stage.workers if each.asked).asked[0],
        next(each for each in stage.tokenizers if each.asked).asked[0],
    ]
    assert [(each.model, each.adapter) for each in asked] == [(MODEL, ADAPTER)] * 3


async def test_an_unknown_name_is_told_the_known_ones_adapters_too(stage: Stage) -> None:
    response = await stage.chat(model="novelist")
    assert response.status_code == 404
    message = response.json()["error"]["message"]
    assert message == f"The model `novelist` does not exist. Known models: {ADAPTER}, {MODEL}."


async def test_an_adapter_that_nobody_can_load_is_named(stage: Stage) -> None:
    failed = pb.Failed(reason=pb.FAILURE_REASON_NOT_SERVED, message="adapter 'poet' is broken")
    for each in stage.workers:
        each.fails_after, each.failure = 0, failed
    response = await stage.chat(model=ADAPTER)
    assert response.status_code == 503
    assert response.json()["error"]["message"] == failed.message
    assert [len(each.asked) for each in stage.workers] == [1, 1]


@pytest.mark.parametrize("path", ["/readyz", "/health"])
async def test_readiness_needs_a_worker_in_every_pool(stage: Stage, path: str) -> None:
    assert (await stage.client.get(path)).status_code == 200
    stage.edge._hops.fleet.hear(())
    response = await stage.client.get(path)
    assert response.status_code == 503
    assert MODEL in response.json()["error"]["message"]
    assert (await stage.client.get("/healthz")).status_code == 200


async def test_a_draining_edge_is_not_ready(stage: Stage) -> None:
    stage.edge.draining = True
    assert (await stage.client.get("/readyz")).status_code == 503


async def test_metrics_count_what_was_answered(stage: Stage) -> None:
    await stage.chat()
    text = (await stage.client.get("/metrics")).text
    assert 'headway_ttft_stage_seconds_count{stage="prefill"}' in text
    assert 'headway_edge_requests_total{endpoint="chat",status="200"}' in text


@pytest.mark.parametrize(
    ("kwargs", "param"),
    [
        pytest.param({}, "messages", id="the-conversation"),
        pytest.param({"a": 1}, "chat_template_kwargs", id="its-variables"),
    ],
)
async def test_what_the_tokenizer_refuses_has_the_callers_name(
    stage: Stage, kwargs: dict[str, Any], param: str
) -> None:
    response = await stage.chat("refuse", chat_template_kwargs=kwargs)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [
        (pb.Finish(reason=pb.FINISH_REASON_STOP), None),
        (pb.Finish(reason=pb.FINISH_REASON_LENGTH), None),
        (pb.Finish(reason=pb.FINISH_REASON_STOP, stop_text="END"), "END"),
        (pb.Finish(reason=pb.FINISH_REASON_STOP, stop_token_id=0), 0),
    ],
    ids=["end", "limit", "stop-string", "stop-token"],
)
async def test_what_stopped_it_is_told_as_vllm_does(
    stage: Stage, path: str, finish: pb.Finish, stop_reason: str | int | None, stream: bool
) -> None:
    stage.workers[0].tells = [
        pb.Delta(text="a", started=pb.Started()),
        pb.Delta(text="b", finish=finish),
    ]
    prompt = {"prompt": "a"} if path == "/v1/completions" else {"messages": [USER]}
    response = await stage.client.post(path, json={"model": MODEL, "stream": stream, **prompt})
    told = events_of(response.text)[-1] if stream else response.json()
    assert told["choices"][0]["stop_reason"] == stop_reason
