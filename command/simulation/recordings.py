"""A recording of the scheduler's, read back (docs/formats.md). Pure."""

import json
import struct
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from services.blocks import HASH_BYTES
from services.scheduler.recording import VERSION

PLACED = "placed"
HEAD = "headway_recording"
MOST_ANSWER_TOKENS = 2**18
"""More are hardly an answer's, and to simulate them takes long: these take seconds."""
LARGEST = 2**63


class BadRecording(ValueError):
    """A recording cannot be read. The text is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker said of itself when it joined."""

    id: str
    kind: str
    models: tuple[str, ...]
    block_size: int
    capacity_blocks: int
    max_running: int
    step_budget_tokens: int
    max_model_tokens: int


@dataclass(frozen=True, slots=True)
class Work:
    """A worker's steps between two reports."""

    steps: int
    step_s: float
    prefilled_tokens: int
    decoded_tokens: int


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request. What it came to is None until its end was read."""

    arrival_s: float
    model: str
    kind: str
    tenant: str
    priority: int
    prompt_tokens: int
    max_tokens: int
    block_size: int
    blocks: tuple[int, ...]
    outcome: str
    worker: str
    cached_tokens: int
    waited_s: float
    ended_s: float | None = None
    ttft_s: float | None = None
    generated_tokens: int = 0


@dataclass(slots=True)
class Recording:
    """All that was read; requests in the order in which they were answered."""

    policy: str = ""
    workers: dict[str, Worker] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)
    most_live: dict[tuple[str, str], int] = field(default_factory=dict)
    """The most workers at once, by main model and kind."""
    work: dict[str, list[Work]] = field(default_factory=dict)
    """By worker."""


def read_recording(lines: Iterable[str]) -> Recording:
    """Read what the scheduler wrote. Raises BadRecording.

    A line may be broken where a scheduler was killed: at the end, or before a new beginning.
    """
    reading, broken = _Reading(), ""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if broken and HEAD not in fields:
                raise BadRecording(broken)
            broken = ""
            reading.take(fields)
        except json.JSONDecodeError as error:
            broken = broken or f"line {number} is no JSON: {error.msg}"
        except RecursionError as error:
            raise BadRecording(f"line {number} is not of a recording: nested too deep") from error
        except (ValueError, KeyError, TypeError, OverflowError, struct.error) as error:
            if isinstance(error, BadRecording):
                raise
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise BadRecording(f"line {number} is not of a recording: {why}") from error
    if not reading.recording.requests:
        raise BadRecording(broken or "the recording has no requests")
    return reading.recording


class _Reading:
    """The recording so far."""

    def __init__(self) -> None:
        self.recording = Recording()
        self._zero_unix_s: float | None = None
        self._shift_s = 0.0
        self._open: dict[str, Asked] = {}
        self._live: dict[str, Worker] = {}

    def take(self, fields: dict[str, Any]) -> None:
        """One line. Raises ValueError, KeyError or TypeError for what is none."""
        if HEAD in fields:
            self._begin(fields)
        elif self._zero_unix_s is None:
            raise ValueError(f"it does not begin with {HEAD!r}")
        elif "joined" in fields:
            self._join(_worker(fields))
        elif "left" in fields:
            self._live.pop(fields["left"], None)
        elif "request" in fields:
            asked = _asked(fields, self._shift_s)
            self.recording.requests.append(asked)
            if asked.outcome == PLACED:
                self._open[fields["request"]] = asked
        elif "ended" in fields:
            self._end(fields)
        elif "worked" in fields:
            self.recording.work.setdefault(fields["worked"], []).append(_work(fields))

    def _begin(self, fields: dict[str, Any]) -> None:
        if fields[HEAD] != VERSION:
            raise ValueError(f"it is of version {fields[HEAD]}, not {VERSION}")
        unix_s = _seconds(fields, "unix_s")
        if self._zero_unix_s is None:
            self._zero_unix_s = unix_s
        self._shift_s = unix_s - self._zero_unix_s
        self.recording.policy = str(fields["policy"])
        self._live.clear()

    def _join(self, worker: Worker) -> None:
        self.recording.workers[worker.id] = self._live[worker.id] = worker
        pool = (worker.models[0], worker.kind)
        live = sum((each.models[0], each.kind) == pool for each in self._live.values())
        self.recording.most_live[pool] = max(live, self.recording.most_live.get(pool, 0))

    def _end(self, fields: dict[str, Any]) -> None:
        asked = self._open.pop(fields["ended"], None)
        if asked is None:
            return  # it was placed before the recording begins
        asked.ended_s = _seconds(fields, "t_s") + self._shift_s
        asked.ttft_s = None if fields["ttft_s"] is None else _seconds(fields, "ttft_s")
        asked.generated_tokens = _whole(fields, "generated_tokens", 0, MOST_ANSWER_TOKENS)


def _worker(fields: dict[str, Any]) -> Worker:
    models = tuple(str(model) for model in fields["models"])
    if not models:
        raise ValueError("a worker without a model")
    return Worker(
        id=str(fields["joined"]),
        kind=str(fields["kind"]),
        models=models,
        block_size=_positive(fields, "block_size"),
        capacity_blocks=_whole(fields, "capacity_blocks"),
        max_running=_positive(fields, "max_running"),
        step_budget_tokens=_positive(fields, "step_budget_tokens"),
        max_model_tokens=_positive(fields, "max_model_tokens"),
    )


def _asked(fields: dict[str, Any], shift_s: float) -> Asked:
    placed = fields["outcome"] == PLACED
    return Asked(
        arrival_s=_seconds(fields, "t_s") + shift_s,
        model=str(fields["model"]),
        kind=str(fields["kind"]),
        tenant=str(fields["tenant"]),
        priority=int(fields["priority"]),
        prompt_tokens=_positive(fields, "prompt_tokens"),
        max_tokens=_whole(fields, "max_tokens"),
        block_size=_positive(fields, "block_size"),
        blocks=_unpacked(fields["blocks"]),
        outcome=str(fields["outcome"]),
        worker=str(fields["worker"]) if placed else "",
        cached_tokens=_whole(fields, "cached_tokens") if placed else 0,
        waited_s=_seconds(fields, "waited_s") if placed else 0.0,
    )


def _work(fields: dict[str, Any]) -> Work:
    # A prompt's last step makes its first token too: that is not a decode.
    decoded = _whole(fields, "generated_tokens") - _whole(fields, "prefills")
    return Work(
        _positive(fields, "steps"),
        _seconds(fields, "step_s"),
        _whole(fields, "prefilled_tokens"),
        max(0, decoded),
    )


def _positive(fields: dict[str, Any], name: str) -> int:
    return _whole(fields, name, least=1)


def _whole(fields: dict[str, Any], name: str, least: int = 0, most: int = LARGEST) -> int:
    value = int(fields[name])
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, not {least} to {most}")
    return value


def _seconds(fields: dict[str, Any], name: str) -> float:
    value = float(fields[name])
    if not 0 <= value < inf:
        raise ValueError(f"{name} is {value}")
    return value


def _unpacked(text: str) -> tuple[int, ...]:
    packed = b64decode(text, validate=True)
    return struct.unpack(f"<{len(packed) // HASH_BYTES}Q", packed)
