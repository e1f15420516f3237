"""A worker is lost while real vLLM writes a call."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.asking import pid_of
from tests.end_to_end.test_tools import SHOWN, TOOLS
from tests.system import System, system

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]


@pytest.fixture
def fleet(demo_model: Path, tmp_path: Path) -> Iterator[System]:
    with system(tmp_path, "--workers", "2", "--embedding-workers", "0") as running:
        yield running


def body(**more: Any) -> dict[str, Any]:
    asked = {"model": "smollm2", "messages": SHOWN, "tools": TOOLS, "temperature": 0}
    return {**asked, "max_tokens": 100, **more}


def events_of(client: httpx.Client, victim: int, **more: Any) -> list[Any]:
    """The events of a stream whose worker is killed when arguments of a call come."""
    events: list[Any] = []
    headers = {"X-Headway-Explain": "1"}
    asked = body(stream=True, **more)
    with client.stream("POST", "/v1/chat/completions", json=asked, headers=headers) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line.removeprefix("data: ")))
                begun = sum(map(bool, map(arguments, events)))
                if arguments(events[-1]) and begun == 3:
                    os.kill(victim, signal.SIGKILL)
    return events


def arguments(event: Any) -> str:
    calls = event["choices"][0]["delta"].get("tool_calls", []) if "choices" in event else []
    return "".join(call["function"].get("arguments", "") for call in calls)


def test_a_free_call_goes_on_and_a_held_one_ends_with_an_error(fleet: System) -> None:
    with httpx.Client(base_url=fleet.url, timeout=120) as client:
        whole = client.post(
            "/v1/chat/completions", json=body(), headers={"X-Headway-Explain": "1"}
        ).json()
        [call] = whole["choices"][0]["message"]["tool_calls"]
        first = whole["headway"]["worker"]
        events = events_of(client, pid_of(fleet, first))
        assert "".join(map(arguments, events)) == call["function"]["arguments"]
        told = [event["choices"][0]["delta"].get("tool_calls", []) for event in events]
        [name] = [one["function"]["name"] for calls in told for one in calls if "id" in one]
        assert name == call["function"]["name"]
        assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
        assert events[-1]["headway"]["resumes"] == 1
        survivor = events[-1]["headway"]["worker"]
        assert survivor != first
        *_, last = events_of(client, pid_of(fleet, survivor), tool_choice="required")
        assert "its tool calls are constrained" in last["error"]["message"]
