"""What every gateway has: where it is started, and what is known once it answers."""

import json
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.overhead.children import HOST, until_answers
from bench.overhead.workload import MODEL
from services.worker.sim_core import SimSettings

ENGINES = 2
FAST = SimSettings(
    prefill_us=0.5,
    decode_us=0.5,
    budget=100_000,
    max_running=4096,
    capacity_blocks=200_000,
)
"""Engines that are never the limit; a case says how long a step takes."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What is installed here."""

    model: Path
    """The directory of the demo model; most use its tokenizer alone."""
    peers: Path
    """The virtual environment of smg and vllm-router."""
    litellm: Path


@dataclass(frozen=True, slots=True)
class Place:
    """What a gateway is started with."""

    tools: Tools
    home: Path
    """For logs and settings; its own, and removed afterwards."""
    pace: SimSettings = FAST
    edges: int = 1

    @property
    def pace_flag(self) -> str:
        """The pace as engines read it."""
        return ",".join(f"{name}={value}" for name, value in asdict(self.pace).items())


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that answers."""

    url: str
    services: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The processes that are charged, by service. None for engines alone."""


Start = Callable[[Place], AbstractContextManager[Gateway]]


def url_of(port: int) -> str:
    """Where something listens."""
    return f"http://{HOST}:{port}"


def until_chats(port: int, child: "subprocess.Popen[bytes]") -> Gateway:
    """The gateway, charged as one process, once it answered a chat."""
    message = {"role": "user", "content": "hi"}
    body = json.dumps({"model": MODEL, "messages": [message], "max_tokens": 2}).encode()
    until_answers(f"{url_of(port)}/v1/chat/completions", child, body)
    return Gateway(url_of(port), {"gateway": (child.pid,)})
