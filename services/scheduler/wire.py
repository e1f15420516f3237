"""Messages to values and back. No decision is made here."""

import struct
from dataclasses import dataclass
from typing import assert_never

import grpc

from headway.scheduler.v1 import scheduler_pb2 as pb
from services.blocks import HASH_BYTES
from services.scheduler.facts import (
    Hello,
    Key,
    Kind,
    KvChange,
    Pool,
    Request,
)
from services.scheduler.outcomes import (
    AlreadyWaiting,
    DeadlinePassed,
    Decision,
    FleetEmpty,
    Placed,
    QueueFull,
    TooLarge,
    TurnedAway,
    UnknownModel,
)

KINDS = {pb.WORKER_KIND_GENERATE: Kind.GENERATE, pb.WORKER_KIND_EMBED: Kind.EMBED}
KINDS_ON_WIRE = {kind: number for number, kind in KINDS.items()}
NOBODY: frozenset[str] = frozenset()


class Malformed(ValueError):
    """A message breaks its contract. The text is one line for its sender."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request turned away, as the wire says it."""

    reason: pb.TurnedAwayReason.ValueType
    status: grpc.StatusCode
    message: str
    retry_after_s: float | None = None


def refusal(outcome: TurnedAway) -> Refusal:
    """The one place that maps outcomes to reasons and statuses."""
    match outcome:
        case AlreadyWaiting(request_id):
            message = f"request {request_id!r} waits already"
            return Refusal(pb.TURNED_AWAY_REASON_INVALID, grpc.StatusCode.ALREADY_EXISTS, message)
        case UnknownModel(asked, known):
            message = f"no worker has served {asked}; known models are {', '.join(known)}"
            return Refusal(pb.TURNED_AWAY_REASON_UNKNOWN_MODEL, grpc.StatusCode.NOT_FOUND, message)
        case FleetEmpty(asked, retry_s):
            message = f"no worker is free to take requests for {asked}"
            status = grpc.StatusCode.UNAVAILABLE
            return Refusal(pb.TURNED_AWAY_REASON_FLEET_EMPTY, status, message, retry_s)
        case TooLarge(tokens, limit):
            message = f"{tokens} tokens are more than any worker can hold, which is {limit}"
            status = grpc.StatusCode.INVALID_ARGUMENT
            return Refusal(pb.TURNED_AWAY_REASON_TOO_LARGE, status, message)
        case QueueFull(limit, retry_s):
            message = f"{limit} requests wait already"
            status = grpc.StatusCode.RESOURCE_EXHAUSTED
            return Refusal(pb.TURNED_AWAY_REASON_QUEUE_FULL, status, message, retry_s)
        case DeadlinePassed(waited_s):
            message = f"the deadline passed after {waited_s * 1000:.0f} ms in the queue"
            status = grpc.StatusCode.DEADLINE_EXCEEDED
            return Refusal(pb.TURNED_AWAY_REASON_DEADLINE, status, message)
        case unreachable:
            assert_never(unreachable)


def read_request(
    message: pb.PlaceRequest,
    block_hashes: tuple[int, ...],
    owner: int,
    now_s: float,
    lease_s: float | None = None,
) -> Request:
    """A request that arrived now. Raises Malformed."""
    if not message.request_id:
        raise Malformed("request_id must not be empty")
    if not message.prompt_tokens:
        raise Malformed("prompt_tokens must be at least 1")
    if block_hashes and not message.block_size:
        raise Malformed("block_size must be at least 1 where there are block hashes")
    if len(block_hashes) * message.block_size > message.prompt_tokens:
        raise Malformed("block_hashes must not be more than the prompt's full blocks")
    kind = Kind.GENERATE if message.max_tokens else Kind.EMBED
    deadline_s = now_s + message.deadline_ms / 1000 if message.HasField("deadline_ms") else None
    return Request(
        key=Key(owner, message.request_id),
        pool=Pool(message.model, message.adapter, kind),
        prompt_tokens=message.prompt_tokens,
        max_tokens=message.max_tokens,
        block_hashes=block_hashes,
        block_size=message.block_size or 1,
        tenant=message.tenant,
        priority=message.priority,
        excluded_workers=frozenset(message.excluded_workers or NOBODY),
        arrived_s=now_s,
        deadline_s=deadline_s,
        lease_s=lease_s,
        traceparent=message.traceparent,
    )


def read_hashes(packed: bytes) -> tuple[int, ...]:
    """Block hashes from eight bytes each. Raises Malformed."""
    count, rest = divmod(len(packed), HASH_BYTES)
    if rest:
        raise Malformed(f"block hashes must be {HASH_BYTES} bytes each, got {len(packed)} bytes")
    return struct.unpack(f"<{count}Q", packed)


def write_placed(message: pb.PlaceResponse, placed: Placed, place_us: int) -> None:
    """Where a request goes."""
    # Into the message and field by field: a message made for another is copied into it.
    message.worker_id = placed.worker_id
    message.address = placed.address
    message.epoch = placed.epoch
    message.cached_tokens = placed.cached_tokens
    timings = message.timings
    timings.admission_queue_us = round(placed.waited_s * 1e6)
    timings.place_us = place_us
    write_decision(message.decision, placed.decision)


def write_decision(message: pb.Decision, decision: Decision) -> None:
    """Why a worker was chosen."""
    message.policy = decision.policy
    message.candidates = decision.candidates
    message.queued_prefill_tokens = decision.queued_prefill_tokens
    if decision.predicted_ttft_s is not None:
        message.predicted_ttft_ms = decision.predicted_ttft_s * 1000


def write_turned_away(outcome: TurnedAway) -> pb.TurnedAway:
    """Why a request was not placed."""
    why = refusal(outcome)
    retry_s = why.retry_after_s
    return pb.TurnedAway(
        reason=why.reason,
        message=why.message,
        retry_after_ms=None if retry_s is None else round(retry_s * 1000),
    )


def write_invalid(error: Malformed) -> pb.TurnedAway:
    """One request of a batch breaks its contract; the others are none the worse."""
    return pb.TurnedAway(reason=pb.TURNED_AWAY_REASON_INVALID, message=str(error))


def read_hello(message: pb.Hello) -> Hello:
    """Who a worker is. Raises Malformed."""
    for name in ("worker_id", "address", "models", "block_size", "max_running"):
        if not getattr(message, name):
            raise Malformed(f"hello must have {name}")
    for name in ("step_budget_tokens", "max_model_tokens"):
        if not getattr(message, name):
            raise Malformed(f"hello must have {name}")
    if message.kind not in KINDS:
        raise Malformed("hello must have a kind")
    return Hello(
        worker_id=message.worker_id,
        address=message.address,
        epoch=message.epoch,
        kind=KINDS[message.kind],
        models=tuple(message.models),
        adapters=tuple(message.adapters),
        block_size=message.block_size,
        capacity_blocks=message.capacity_blocks,
        max_running=message.max_running,
        step_budget_tokens=message.step_budget_tokens,
        max_model_tokens=message.max_model_tokens,
        engine=message.engine,
    )


def read_change(message: pb.KvChange) -> KvChange:
    """What changed in a worker's cache. Raises Malformed."""
    return KvChange(
        sequence=message.sequence,
        snapshot=message.snapshot,
        stored=read_hashes(message.stored),
        removed=read_hashes(message.removed),
    )
