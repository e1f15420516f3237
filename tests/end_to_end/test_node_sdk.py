"""The official Node SDKs do not notice either."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system import System

pytestmark = pytest.mark.vllm

NODE = Path(__file__).parents[1] / "node"


def run(script: str, system: System) -> Any:
    done = subprocess.run(
        ["node", script, system.url], cwd=NODE, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def openai(vllm_system: System) -> Any:
    """What OpenAI's SDK was told."""
    return run("openai.mjs", vllm_system)


@pytest.fixture(scope="module")
def anthropic(vllm_system: System) -> Any:
    """What Anthropic's SDK was told."""
    return run("anthropic.mjs", vllm_system)


def test_openai_chats(openai: Any) -> None:
    told = openai["chat"]
    assert told["whole"]
    assert {told["deltas"], told["iterated"], told["final"]} == {told["whole"]}
    assert told["usage"]["completion_tokens"] == told["final_usage"]["completion_tokens"] == 4
    assert told["has_request_id"]


def test_openai_log_probabilities(openai: Any) -> None:
    told = openai["logprobs"]
    assert told["joined"] == told["streamed"] == told["text"]
    assert told["alternatives"] == [2] * 4


def test_openai_parses_what_follows_a_schema(openai: Any) -> None:
    assert json.loads(openai["parsed"]["content"])["city"] in ("Paris", "Rome")
    assert openai["parsed"]["streamed"] == openai["parsed"]["content"]


def test_openai_runs_tools(openai: Any) -> None:
    told = openai["tools"]
    whole, streamed = told["told"]
    assert whole == streamed
    assert told["roles"] == told["streamed_roles"] == ["user", "assistant", "tool"]
    assert told["result"] == f"You are in {streamed['city']}."


def test_openai_completes(openai: Any) -> None:
    told = openai["completions"]
    assert "".join(told["tokens"]) == told["streamed"] == told["whole"]


def test_openai_embeds_in_both_encodings(openai: Any) -> None:
    assert openai["embeddings"] == {"lengths": [384, 384], "most": 0}


def test_openai_responds(openai: Any) -> None:
    told = openai["responses"]
    assert told["whole"] == told["final"]
    assert told["kinds"] == [
        f"response.{kind}"
        for kind in (
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "incomplete",
        )
    ]
    assert told["call"]["name"] == "visit"
    assert told["call"]["arguments"]["city"] in ("Paris", "Rome")
    assert told["placed"]["city"] in ("Paris", "Rome")
    assert told["answered"] in ("completed", "incomplete")


def test_openai_finds_what_is_kept(openai: Any) -> None:
    told = openai["responses"]
    assert told["next"]
    assert told["retrieved"]
    assert told["items"] == [
        {"type": "message", "role": "user", "text": "Say hello."},
        {"type": "message", "role": "assistant", "text": told["whole"]},
        {"type": "message", "role": "user", "text": "And again."},
    ]


def refused(kind: str, status: int, param: str | None, code: str | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "status": status,
        "type": "invalid_request_error",
        "code": code,
        "param": param,
        "has_request_id": True,
    }


@pytest.mark.parametrize(
    ("part", "name", "refusal"),
    [
        ("responses", "deleted", refused("NotFoundError", 404, None, None)),
        ("responses", "cancelled", refused("BadRequestError", 400, None, None)),
        (
            "responses",
            "unknown",
            refused("BadRequestError", 400, "previous_response_id", "previous_response_not_found"),
        ),
        ("responses", "background", refused("BadRequestError", 400, "background", None)),
        ("refusals", "parameter", refused("BadRequestError", 400, "best_of", "unknown_parameter")),
        ("refusals", "model", refused("NotFoundError", 404, "model", "model_not_found")),
        ("refusals", "long", refused("BadRequestError", 400, "prompt", "context_length_exceeded")),
        ("refusals", "stream", refused("BadRequestError", 400, "temperature", "invalid_value")),
        ("refusals", "path", refused("NotFoundError", 404, None, "unknown_url")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_openai_gets_its_errors(openai: Any, part: str, name: str, refusal: dict[str, Any]) -> None:
    assert openai[part][name] == refusal


def test_both_list_models(openai: Any, anthropic: Any) -> None:
    for told in (openai["models"], anthropic["models"]):
        assert {"smollm2", "minilm"} <= set(told["ids"])
        assert told["retrieved"] == "smollm2"


def test_anthropic_is_told_a_message(anthropic: Any) -> None:
    told = anthropic["text"]
    assert told["whole"]
    assert {told["deltas"], told["final"]} == {told["whole"]}
    assert told["kinds"] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert told["stop_reason"] == "max_tokens"
    assert told["usage"]["output_tokens"] == told["final_usage"]["output_tokens"] == 4
    assert told["has_request_id"]
    assert told["stream_has_request_id"]


def test_anthropic_counts_what_it_is_billed_for(anthropic: Any) -> None:
    assert anthropic["system"]["counted"] == anthropic["system"]["billed"] > 0


def test_anthropic_stops_at_a_sequence(anthropic: Any) -> None:
    told = anthropic["stops"]
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", told["sequence"])
    assert told["sequence"] not in told["text"]


def test_anthropic_uses_tools(anthropic: Any) -> None:
    told = anthropic["tools"]
    assert told["whole"] == [told["input"]] == [json.loads(told["json"])]
    assert told["input"]["city"] in ("Paris", "Rome")
    assert told["stop_reason"] == told["final_stop_reason"] == "tool_use"
    assert told["answered"] == ["text"]


@pytest.mark.parametrize(
    ("name", "kind", "status", "type_", "says"),
    [
        ("parameter", "BadRequestError", 400, "invalid_request_error", "temperature"),
        ("image", "BadRequestError", 400, "invalid_request_error", "image"),
        ("model", "NotFoundError", 404, "not_found_error", "nobody"),
        ("stream", "NotFoundError", 404, "not_found_error", "nobody"),
        ("count", "BadRequestError", 400, "invalid_request_error", "messages"),
    ],
)
def test_anthropic_gets_its_errors(
    anthropic: Any, name: str, kind: str, status: int, type_: str, says: str
) -> None:
    told = anthropic["refusals"][name]
    assert (told["kind"], told["status"], told["type"]) == (kind, status, type_)
    assert says in told["message"]
    assert told["request_id"]
