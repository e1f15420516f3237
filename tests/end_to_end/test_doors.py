"""What is wrong at the HTTP door is said clearly, and the system goes on."""

import json
from typing import Any

import httpx
import pytest

from tests.system import System

pytestmark = pytest.mark.vllm

USER = {"role": "user", "content": "Say hello."}


def body(**more: Any) -> bytes:
    return json.dumps({"model": "smollm2", "messages": [USER], **more}).encode()


@pytest.mark.parametrize(
    ("content", "status", "param"),
    [
        pytest.param(b"{", 400, None, id="malformed-json"),
        pytest.param(body(model="nobody"), 404, "model", id="unknown-model"),
        pytest.param(body(model="minilm"), 404, "model", id="a-model-that-only-embeds"),
        pytest.param(body(messages=[]), 400, "messages", id="no-messages"),
        pytest.param(body(temperature="hot"), 400, "temperature", id="wrong-type"),
        pytest.param(body(colour="red"), 400, "colour", id="unknown-parameter"),
        pytest.param(body(max_tokens=100_000), 400, "messages", id="answer-over-the-context"),
        pytest.param(
            body(messages=[{"role": "user", "content": "sea " * 20_000}]),
            400,
            "messages",
            id="prompt-over-the-context",
        ),
        pytest.param(body(logit_bias={"4000000": 1}), 400, "logit_bias", id="bias-of-no-token"),
        pytest.param(
            body(
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "nonsense"}},
                }
            ),
            400,
            "response_format.json_schema.schema",
            id="schema-that-is-none",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_bad_input(
    vllm_system: System, content: bytes, status: int, param: str | None, stream: bool
) -> None:
    if stream and content != b"{":
        content = json.dumps({**json.loads(content), "stream": True}).encode()
    with httpx.Client(base_url=vllm_system.url, timeout=60) as client:
        response = client.post("/v1/chat/completions", content=content)
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (status, param), error
        assert error["message"]
        assert client.post("/v1/chat/completions", content=body(max_tokens=1)).status_code == 200


def test_prompt_tokens_out_of_the_vocabulary(vllm_system: System) -> None:
    asked = {"model": "smollm2", "prompt": [1, 4_000_000]}
    response = httpx.post(f"{vllm_system.url}/v1/completions", json=asked)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")


def test_the_system_is_alive_ready_and_measured(vllm_system: System) -> None:
    for path in ("/healthz", "/readyz"):
        assert httpx.get(vllm_system.url + path).status_code == 200
    metrics = httpx.get(f"{vllm_system.url}/metrics").text
    assert "headway_ttft_stage_seconds_bucket" in metrics
