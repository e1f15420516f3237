"""Between the core and the streams: carries every answer to whoever asked.

All calls run to their end on one event loop, so the core needs no lock.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

from opentelemetry.trace import SpanKind

from headway.scheduler.v1 import scheduler_pb2 as pb
from observability.telemetry import Telemetry, WallClock
from services.scheduler import wire
from services.scheduler.accounts import Ended
from services.scheduler.facts import BY_HAND, Key, Report, Request
from services.scheduler.fleet import Member
from services.scheduler.metrics import OUTCOMES, Metrics
from services.scheduler.outbox import Ending, Outbox
from services.scheduler.outcomes import Answer, Finished, Outcome, Placed, Settled, Waiting
from services.scheduler.scheduler import PASS_APART_S, Scheduler
from services.scheduler.witness import Witness

Batches = Outbox[pb.PlaceBatchesResponse]


class Desk:
    """Takes requests in and gives answers out."""

    def __init__(
        self,
        core: Scheduler,
        metrics: Metrics,
        telemetry: Telemetry,
        lease_ms: int,
        witness: Witness | None = None,
    ) -> None:
        self.core = core
        self.changed = asyncio.Event()
        """Set, and replaced, when the fleet changes."""
        self._waited_for = asyncio.Event()
        self._metrics = metrics
        self._telemetry = telemetry
        self._lease_ms = lease_ms
        self._witness = witness
        self._wall = WallClock()
        self._owners = count(BY_HAND + 1)
        self._outboxes: dict[int, Batches] = {}
        self._by_hand: dict[str, asyncio.Future[tuple[Settled, int]]] = {}
        self._version = core.fleet.version

    def open(self) -> tuple[int, Batches]:
        """A stream of batches begins: its owner number, and where its answers go."""
        owner = next(self._owners)
        self._outboxes[owner] = Outbox()
        return owner, self._outboxes[owner]

    def release(self, owner: int) -> None:
        """A stream of batches is over, with all that came by it."""
        del self._outboxes[owner]
        now_s = time.monotonic()
        self.core.release(owner, now_s)
        self.settle(now_s)

    def batch(self, owner: int, message: pb.PlaceBatchesRequest) -> None:
        """Take a batch, and acknowledge it with the results known so far."""
        started_s = time.monotonic()
        for report in message.finished:
            self._finish(owner, report, started_s)
        response = pb.PlaceBatchesResponse(batch=message.batch)
        for item in message.items:
            self._answer(owner, item, response)
        for request_id in message.withdrawn:
            self.core.finish(Key(owner, request_id), started_s)
        self._outboxes[owner].put(response)
        self.settle(started_s)

    def report(self, member: Member, report: Report, now_s: float) -> None:
        """A worker says how it fares."""
        self.core.report(member, report, now_s)
        if self._witness is not None:
            self._witness.reported(member, report, now_s)

    async def place_by_hand(self, message: pb.PlaceRequest) -> pb.PlaceResponse | wire.Refusal:
        """Place one request, and wait for the answer. Raises wire.Malformed."""
        hashes = tuple(message.block_hashes)
        now_s = time.monotonic()
        request = wire.read_request(message, hashes, BY_HAND, now_s, self._lease_ms / 1000)
        outcome, place_us = self._place(request, now_s)
        if isinstance(outcome, Waiting):
            outcome, place_us = await self._answer_by_hand(request.key, now_s)
        if isinstance(outcome, Placed):
            response = pb.PlaceResponse(lease_ms=self._lease_ms)
            wire.write_placed(response, outcome, place_us)
            return response
        return wire.refusal(outcome)

    def finish_by_hand(self, report: pb.FinishRequest) -> bool:
        """Give back a placement made by hand. False when there is none."""
        if Key(BY_HAND, report.request_id) in self.core.queue:
            return False  # it has none yet; without its place in the queue it would wait for ever
        now_s = time.monotonic()
        finished = self._finish(BY_HAND, report, now_s)
        self.settle(now_s)
        return finished is not None

    def settle(self, since_s: float) -> None:
        """Send what the core has answered, and tell who watches of a changed fleet."""
        answers = self.core.take_answers()
        if answers:
            self._send(answers, since_s)
        self._tell_watchers()
        if self.core.queue:
            self._waited_for.set()

    def _send(self, answers: Sequence[Answer], since_s: float) -> None:
        now_s = time.monotonic()
        place_s = (now_s - since_s) / len(answers)
        late: dict[int, pb.PlaceBatchesResponse] = {}
        for request, outcome in ((each.request, each.outcome) for each in answers):
            self._note(request, outcome, place_s, now_s)
            place_us = round(place_s * 1e6)
            if request.key.owner == BY_HAND:
                answer = self._by_hand[request.key.request_id]
                if not answer.done():  # its caller may have gone in this very turn
                    answer.set_result((outcome, place_us))
            else:
                response = late.setdefault(request.key.owner, pb.PlaceBatchesResponse())
                self._write(response, request.key.request_id, outcome, place_us)
        for owner, response in late.items():
            self._outboxes[owner].put(response)

    async def until_waited_for(self, most_s: float) -> None:
        """Return after a while; soon, if somebody waits, and then who has room is placed."""
        if not self.core.queue:
            self._waited_for.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(most_s):
                    await self._waited_for.wait()
        if self.core.queue:
            await asyncio.sleep(PASS_APART_S)
            now_s = time.monotonic()
            self.core.dispatch(now_s)
            self.settle(now_s)

    def tick(self) -> None:
        """Show the figures."""
        self._metrics.observe(self.core)

    def close(self, ending: Ending) -> None:
        """End all streams of batches."""
        for outbox in self._outboxes.values():
            outbox.close(ending)

    def _answer(self, owner: int, item: pb.PlaceItem, response: pb.PlaceBatchesResponse) -> None:
        """Add the item's result to the response, unless it has to wait."""
        now_s = time.monotonic()
        request_id = item.request.request_id
        try:
            hashes = wire.read_hashes(item.block_hashes)
            request = wire.read_request(item.request, hashes, owner, now_s)
        except wire.Malformed as error:
            result = response.results.add(request_id=request_id)
            result.turned_away.CopyFrom(wire.write_invalid(error))
            return
        outcome, place_us = self._place(request, now_s)
        if not isinstance(outcome, Waiting):
            self._write(response, request_id, outcome, place_us)

    def _place(self, request: Request, now_s: float) -> tuple[Outcome, int]:
        outcome = self.core.place(request, now_s)
        placed_s = time.monotonic()
        if not isinstance(outcome, Waiting):
            self._note(request, outcome, placed_s - now_s, placed_s)
        return outcome, round((placed_s - now_s) * 1e6)

    async def _answer_by_hand(self, key: Key, since_s: float) -> tuple[Settled, int]:
        answer = asyncio.get_running_loop().create_future()
        self._by_hand[key.request_id] = answer
        self.settle(since_s)
        try:
            settled: tuple[Settled, int] = await answer
        except asyncio.CancelledError:
            now_s = time.monotonic()
            self.core.finish(key, now_s)
            self.settle(now_s)
            raise
        finally:
            del self._by_hand[key.request_id]
        return settled

    def _finish(self, owner: int, report: pb.FinishRequest, now_s: float) -> Finished | None:
        has_token = report.HasField("actual_ttft_ms")
        actual_s = report.actual_ttft_ms / 1000 if has_token else None
        whole = report.outcome == pb.FINISH_OUTCOME_COMPLETED
        tokens = report.completion_tokens if whole else None
        key = Key(owner, report.request_id)
        finished = self.core.finish(key, now_s, Ended(actual_s, tokens, report.completion_tokens))
        if finished is None:
            return None
        if finished.error_s is not None and actual_s is not None:
            self._metrics.predicted(finished.error_s, actual_s)
        if self._witness is not None:
            self._witness.ended(key, now_s, actual_s, report.completion_tokens)
        return finished

    def _write(
        self, response: pb.PlaceBatchesResponse, request_id: str, outcome: Settled, place_us: int
    ) -> None:
        result = response.results.add(request_id=request_id)
        if isinstance(outcome, Placed):
            wire.write_placed(result.placed, outcome, place_us)
        else:
            result.turned_away.CopyFrom(wire.write_turned_away(outcome))

    def _note(self, request: Request, outcome: Settled, place_s: float, end_s: float) -> None:
        self._metrics.answered(outcome, place_s)
        if self._witness is not None:
            self._witness.answered(request, outcome, end_s)
        if request.traceparent and self._telemetry.exporting:
            self._trace(request, outcome, end_s)

    def _trace(self, request: Request, outcome: Settled, end_s: float) -> None:
        start_ns = self._wall.at(request.arrived_s)
        attributes: dict[str, str | int] = {
            "gen_ai.request.model": request.pool.model,
            "headway.outcome": OUTCOMES[type(outcome)],
        }
        queued_s = end_s - request.arrived_s
        if isinstance(outcome, Placed):
            queued_s = outcome.waited_s
            attributes["headway.worker"] = outcome.worker_id
            attributes["headway.cached_tokens"] = outcome.cached_tokens
        place = self._telemetry.record(
            "scheduler.place",
            request.traceparent,
            start_ns,
            self._wall.at(end_s),
            attributes,
            SpanKind.SERVER,
        )
        if place is not None:
            end_ns = self._wall.at(request.arrived_s + queued_s)
            self._telemetry.record("scheduler.admission_queue", place, start_ns, end_ns)

    def _tell_watchers(self) -> None:
        if self._version != self.core.fleet.version:
            self._version = self.core.fleet.version
            if self._witness is not None:
                self._witness.fleet_changed(time.monotonic())
            self.wake_watchers()

    def wake_watchers(self) -> None:
        """Let all who watch the fleet look again."""
        self.changed.set()
        self.changed = asyncio.Event()
