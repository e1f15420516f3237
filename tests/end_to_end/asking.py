"""What tests of a running system ask it, and what they do to it."""

from typing import Any

import httpx

from tests.system import System


def ask(content: str, **more: Any) -> dict[str, Any]:
    """The body of a greedy chat."""
    messages = [{"role": "user", "content": content}]
    return {"model": "smollm2", "messages": messages, "temperature": 0, **more}


def chat(client: httpx.Client, content: str, **more: Any) -> Any:
    """A chat's answer, with its `headway` object."""
    response = client.post(
        "/v1/chat/completions", json=ask(content, **more), headers={"X-Headway-Explain": "1"}
    )
    assert response.status_code == 200, response.text
    return response.json()


def pid_of(system: System, worker_id: str) -> int:
    """The process of a worker."""
    index = int(worker_id.rpartition("-")[2])
    [row] = [row for row in system.ps("worker") if row["index"] == index]
    pid: int = row["pid"]
    return pid
