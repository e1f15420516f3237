"""What fails in a running system, and that nobody loses a token over it.

The simulated engine's next token depends on all tokens before it, so a stream that went on
anywhere but at the very token where it stopped would read differently.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.asking import ask, chat, pid_of
from tests.system import System, system

TOKENS = 60
COUNT = "headway_cancel_seconds_count "


@pytest.fixture(scope="module")
def fleet(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("faults")
    with system(home, "--engine", "sim", "--workers", "3", "--sim", "base_ms=15") as running:
        yield running


def test_a_killed_workers_streams_go_on_to_the_same_text(fleet: System) -> None:
    with httpx.Client(base_url=fleet.url, timeout=60) as client:
        whole = chat(client, "Tell me a story.", max_tokens=TOKENS)
        events: list[Any] = []
        body = ask(
            "Tell me a story.",
            max_tokens=TOKENS,
            stream=True,
            stream_options={"include_usage": True},
        )
        headers = {"X-Headway-Explain": "1"}
        # The undisturbed run left its prefix on one worker, so the same one gets this.
        victim = pid_of(fleet, whole["headway"]["worker"])
        with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    events.append(json.loads(line.removeprefix("data: ")))
                    if len(events) == TOKENS // 3:
                        os.kill(victim, signal.SIGKILL)
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    explained = events[-1]["headway"]
    assert explained["resumes"] == 1
    assert explained["worker"] != whole["headway"]["worker"]
    assert events[-1]["usage"]["completion_tokens"] == TOKENS


def test_a_client_that_leaves_frees_the_engine(fleet: System) -> None:
    before = _cancelled(fleet)
    with httpx.Client(base_url=fleet.url, timeout=60) as client:
        body = ask("Leave me.", stream=True, max_tokens=4000)
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_raw())
    deadline = time.monotonic() + 10
    while _cancelled(fleet) == before:
        assert time.monotonic() < deadline, "the engine still runs for nobody"
        time.sleep(0.05)


def _cancelled(fleet: System) -> float:
    """Requests that left an engine before their end, by the workers' own count."""
    rows = [row for row in fleet.ps("worker") if row["ready"]]
    texts = [httpx.get(f"http://{row['metrics_address']}/metrics").text for row in rows]
    lines = [line for text in texts for line in text.splitlines()]
    return sum(float(line.split()[1]) for line in lines if line.startswith(COUNT))
