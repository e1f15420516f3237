"""What a recording of traffic holds: a line of JSON an entry. Pure.

docs/formats.md describes the lines; `headway replay` reads them. No prompt is in them, only
the hashes of its blocks.
"""

import json
import struct
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, assert_never

from services.scheduler.facts import Hello, Key, Report, Request
from services.scheduler.outcomes import Placed, Settled

VERSION = 1


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker came."""

    at_s: float
    hello: Hello


@dataclass(frozen=True, slots=True)
class Left:
    """A worker is gone."""

    at_s: float
    worker_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A request was placed or turned away."""

    at_s: float
    request: Request
    outcome: Settled
    outcome_name: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A placement is over. `ttft_s` counts from the placement; None when no token came."""

    at_s: float
    key: Key
    ttft_s: float | None
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Worked:
    """A worker's steps since its last report."""

    at_s: float
    worker_id: str
    report: Report


Entry = Joined | Left | Answered | Ended | Worked


def write_head(policy: str, unix_s: float) -> str:
    """The line that begins a recording, and begins it again after a restart."""
    return _line({"headway_recording": VERSION, "policy": policy, "unix_s": round(unix_s, 3)})


def write_entry(entry: Entry, began_s: float) -> str:
    """One line; its times count from `began_s`."""
    return _line(_fields(entry, began_s))


def _fields(entry: Entry, began_s: float) -> dict[str, Any]:
    match entry:
        case Joined(at_s, hello):
            return {"joined": hello.worker_id, "t_s": _round(at_s - began_s)} | _facts(hello)
        case Left(at_s, worker_id):
            return {"left": worker_id, "t_s": _round(at_s - began_s)}
        case Answered():
            return _answered(entry, began_s)
        case Ended(at_s, key, ttft_s, generated_tokens):
            return {
                "ended": _name(key),
                "t_s": _round(at_s - began_s),
                "ttft_s": None if ttft_s is None else _round(ttft_s),
                "generated_tokens": generated_tokens,
            }
        case Worked(at_s, worker_id, report):
            return {"worked": worker_id, "t_s": _round(at_s - began_s)} | _work(report)
        case unreachable:
            assert_never(unreachable)


def _facts(hello: Hello) -> dict[str, Any]:
    return {
        "kind": hello.kind.value,
        "models": hello.models,
        "adapters": hello.adapters,
        "block_size": hello.block_size,
        "capacity_blocks": hello.capacity_blocks,
        "max_running": hello.max_running,
        "step_budget_tokens": hello.step_budget_tokens,
        "max_model_tokens": hello.max_model_tokens,
        "engine": hello.engine,
    }


def _answered(entry: Answered, began_s: float) -> dict[str, Any]:
    request = entry.request
    deadline_s = request.deadline_s
    asked = {
        "request": _name(request.key),
        "t_s": _round(request.arrived_s - began_s),
        "model": request.pool.model,
        "adapter": request.pool.adapter,
        "kind": request.pool.kind.value,
        "tenant": request.tenant,
        "priority": request.priority,
        "deadline_s": None if deadline_s is None else _round(deadline_s - request.arrived_s),
        "prompt_tokens": request.prompt_tokens,
        "max_tokens": request.max_tokens,
        "block_size": request.block_size,
        "blocks": _packed(request.block_hashes),
        "outcome": entry.outcome_name,
    }
    return asked | (_placed(entry.outcome) if isinstance(entry.outcome, Placed) else {})


def _placed(placed: Placed) -> dict[str, Any]:
    predicted_s = placed.decision.predicted_ttft_s
    return {
        "worker": placed.worker_id,
        "cached_tokens": placed.cached_tokens,
        "waited_s": _round(placed.waited_s),
        "candidates": placed.decision.candidates,
        "queued_prefill_tokens": placed.decision.queued_prefill_tokens,
        "predicted_ttft_s": None if predicted_s is None else _round(predicted_s),
    }


def _work(report: Report) -> dict[str, Any]:
    return {
        "steps": report.steps,
        "step_s": _round(report.step_time_us / 1e6),
        "prefills": len(report.prefills),
        "prefilled_tokens": sum(timing.computed_tokens for timing in report.prefills),
        "generated_tokens": report.generated_tokens,
    }


def _name(key: Key) -> str:
    return f"{key.owner}/{key.request_id}"


def _packed(hashes: tuple[int, ...]) -> str:
    return b64encode(struct.pack(f"<{len(hashes)}Q", *hashes)).decode()


def _round(seconds: float) -> float:
    return round(seconds, 6)


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"
