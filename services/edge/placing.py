"""The hop to the scheduler: one placement a request in, one report at its end out."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from services.edge import fallback
from services.edge.apis.refusals import Invalid, Overloaded, Refusal, Unavailable, UnknownModel
from services.edge.conversation import Conversation
from services.edge.fleet import Fleet
from services.edge.workers import Served

Item = pb.PlaceItem | pb.FinishRequest | str  # to place, to report, to withdraw


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a request goes, and why."""

    worker_id: str
    address: str
    timings_us: dict[str, int] = field(default_factory=dict)
    why: dict[str, Any] = field(default_factory=dict)


class Placer:
    """Asks the scheduler; places by itself while the scheduler is down."""

    def __init__(self, stub: "rpc.SchedulerServiceAsyncStub", fleet: Fleet) -> None:
        self._stub = stub
        self._fleet = fleet
        self._asked: dict[str, asyncio.Future[pb.PlaceResult | None]] = {}
        self._open_requests: dict[str, int] = {}
        self.conversation: Conversation[Item, pb.PlaceBatchesRequest, pb.PlaceBatchesResponse] = (
            Conversation(self, acknowledged=True)
        )

    async def place(self, item: pb.PlaceItem) -> Placed | Refusal:
        """Place one request. A placement is to be given back with `finish`."""
        result = None if self.conversation.is_down else await self._ask(item)
        placed = self._fall_back(item) if result is None else _read(result, item.request)
        if result is not None and _knows_nobody(result):
            # It may have restarted, and its workers are about to join it again.
            known = self._fall_back(item)
            placed = known if isinstance(known, Placed) else placed
        if isinstance(placed, Placed):
            self._count(placed.worker_id, 1)
        return placed

    def finish(self, placed: Placed, report: pb.FinishRequest) -> None:
        """Give a placement back."""
        self._count(placed.worker_id, -1)
        self.conversation.put(report)

    async def _ask(self, item: pb.PlaceItem) -> pb.PlaceResult | None:
        request_id = item.request.request_id
        answered: asyncio.Future[pb.PlaceResult | None]
        answered = self._asked[request_id] = asyncio.get_running_loop().create_future()
        self.conversation.put(item)
        try:
            return await answered
        except asyncio.CancelledError:
            self._withdraw(request_id, answered)
            raise
        finally:
            self._asked.pop(request_id, None)

    def _withdraw(self, request_id: str, answered: "asyncio.Future[pb.PlaceResult | None]") -> None:
        result = None if answered.cancelled() else answered.result()
        if result is not None and result.HasField("placed"):
            # The placement came in the very turn in which the client left.
            cancelled = pb.FINISH_OUTCOME_CANCELLED
            self.conversation.put(pb.FinishRequest(request_id=request_id, outcome=cancelled))
        else:
            self.conversation.put(request_id)

    def _fall_back(self, item: pb.PlaceItem) -> Placed | Refusal:
        request = item.request
        worker = fallback.place(
            item.block_hashes,
            Served(request.model, request.adapter),
            self._fleet.workers,
            self._open_requests,
            request.excluded_workers,
        )
        if worker is None:
            return Unavailable("The scheduler is down, and no worker of the model is known.")
        return Placed(worker.id, worker.address, why={"policy": "fallback"})

    def _count(self, worker_id: str, change: int) -> None:
        count = self._open_requests.get(worker_id, 0) + change
        if count:
            self._open_requests[worker_id] = count
        else:
            del self._open_requests[worker_id]

    def open(self) -> "grpc.aio.StreamStreamCall[pb.PlaceBatchesRequest, pb.PlaceBatchesResponse]":
        """Start the stream."""
        return self._stub.PlaceBatches()

    def compose(self, batch: int, items: list[Item]) -> pb.PlaceBatchesRequest:
        """The message of a batch."""
        message = pb.PlaceBatchesRequest(batch=batch)
        for item in items:
            match item:
                case pb.PlaceItem():
                    message.items.append(item)
                case pb.FinishRequest():
                    message.finished.append(item)
                case str():
                    message.withdrawn.append(item)
        return message

    def receive(self, response: pb.PlaceBatchesResponse) -> bool:
        """Hand the results to those who wait."""
        for result in response.results:
            answered = self._asked.get(result.request_id)
            if answered is not None and not answered.done():
                answered.set_result(result)
        return response.batch != 0

    def lost(self) -> None:
        """Tell those who wait to place by themselves."""
        for answered in self._asked.values():
            if not answered.done():
                answered.set_result(None)


def _knows_nobody(result: pb.PlaceResult) -> bool:
    return result.turned_away.reason == pb.TURNED_AWAY_REASON_FLEET_EMPTY


def _read(result: pb.PlaceResult, request: pb.PlaceRequest) -> Placed | Refusal:
    if result.HasField("turned_away"):
        return _refusal(result.turned_away, request.adapter or request.model)
    placed = result.placed
    decision = placed.decision
    why: dict[str, Any] = {
        "policy": decision.policy,
        "candidates": decision.candidates,
        "cached_tokens": placed.cached_tokens,
        "queued_prefill_tokens": decision.queued_prefill_tokens,
    }
    if decision.HasField("predicted_ttft_ms"):
        why["predicted_ttft_ms"] = round(decision.predicted_ttft_ms, 3)
    timings_us = {
        "admission_queue": placed.timings.admission_queue_us,
        "place": placed.timings.place_us,
    }
    return Placed(placed.worker_id, placed.address, timings_us, why)


def _refusal(turned_away: pb.TurnedAway, model: str) -> Refusal:
    retry_after_s = -(-turned_away.retry_after_ms // 1000) or 1
    match turned_away.reason:
        case pb.TURNED_AWAY_REASON_UNKNOWN_MODEL:
            return UnknownModel(model, ())
        case pb.TURNED_AWAY_REASON_FLEET_EMPTY:
            return Unavailable(turned_away.message, retry_after_s)
        case pb.TURNED_AWAY_REASON_TOO_LARGE:
            return Invalid(turned_away.message, code="context_length_exceeded")
        case pb.TURNED_AWAY_REASON_INVALID:
            return Invalid(turned_away.message)
        case pb.TURNED_AWAY_REASON_QUEUE_FULL:
            return Overloaded(turned_away.message, retry_after_s)
        case _:
            return Unavailable(turned_away.message, retry_after_s)
