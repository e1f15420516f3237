"""The workers' side: one stream for each life of a worker."""

import time
from collections.abc import AsyncIterator

import grpc
import structlog

from headway.scheduler.v1 import scheduler_pb2 as pb
from services.scheduler import wire
from services.scheduler.desk import Desk
from services.scheduler.fleet import FleetFull, Member
from services.scheduler.outbox import Ending, Outbox
from services.scheduler.reports import read_report

Answers = Outbox[pb.JoinResponse]

SILENT = Ending(grpc.StatusCode.DEADLINE_EXCEEDED, "nothing was heard for the time-to-live")
REPLACED = Ending(grpc.StatusCode.ALREADY_EXISTS, "another worker joined under the same id")
NO_HELLO = Ending(grpc.StatusCode.INVALID_ARGUMENT, "hello must come first, and once")


class Joining:
    """Reads what workers say into the core."""

    def __init__(self, desk: Desk, heartbeat_ms: int, log: structlog.stdlib.BoundLogger) -> None:
        self._desk = desk
        self._core = desk.core
        self._heartbeat_ms = heartbeat_ms
        self._log = log
        self._answers: dict[Member, Answers] = {}

    async def listen(self, messages: AsyncIterator[pb.JoinRequest], answers: Answers) -> None:
        """Follow one worker until its stream ends. Closes `answers` with the reason, if any."""
        member: Member | None = None
        try:
            async for message in messages:
                if member is None:
                    member = self._join(message, answers)
                    ending = None
                else:
                    ending = self._take(member, message)
                if member is None or ending is not None:
                    answers.close(ending)
                    return
        finally:
            if member is not None:
                self._leave(member, "stream ended")

    def drain(self, worker_id: str) -> Member | None:
        """Give a worker nothing new, and tell it so. None when it is not in the fleet."""
        now_s = time.monotonic()
        member = self._core.drain(worker_id, now_s)
        if member is not None:
            self._answers[member].put(pb.JoinResponse(drain=pb.Drain()))
            self._log.info("draining", worker=worker_id)
            self._desk.settle(now_s)
        return member

    def tick(self) -> None:
        """Let time pass."""
        now_s = time.monotonic()
        for member in self._core.tick(now_s):
            self._answers[member].close(SILENT)
            self._log.warning("worker left", worker=member.id, reason="silent")
        self._desk.settle(now_s)

    def close(self, ending: Ending) -> None:
        """End all streams of workers."""
        for answers in self._answers.values():
            answers.close(ending)

    def _join(self, message: pb.JoinRequest, answers: Answers) -> Member | None:
        if not message.HasField("hello"):
            answers.close(NO_HELLO)
            return None
        try:
            hello = wire.read_hello(message.hello)
        except wire.Malformed as error:
            answers.close(Ending(grpc.StatusCode.INVALID_ARGUMENT, str(error)))
            return None
        older = self._core.fleet.member(hello.worker_id)
        now_s = time.monotonic()
        try:
            member = self._core.join(hello, now_s)
        except FleetFull as error:
            answers.close(Ending(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)))
            return None
        if older is not None:
            self._answers[older].close(REPLACED)
        self._welcome(member, answers)
        self._log.info("worker joined", worker=member.id, epoch=hello.epoch, engine=hello.engine)
        self._desk.settle(now_s)
        return member

    def _welcome(self, member: Member, answers: Answers) -> None:
        self._answers[member] = answers
        answers.put(pb.JoinResponse(welcome=pb.Welcome(heartbeat_ms=self._heartbeat_ms)))
        if member.drained:
            answers.put(pb.JoinResponse(drain=pb.Drain()))

    def _take(self, member: Member, message: pb.JoinRequest) -> Ending | None:
        if not self._core.fleet.holds(member):
            return None  # replaced or silent for too long: its ending is on its way
        now_s = time.monotonic()
        match message.WhichOneof("message"):
            case "report":
                self._desk.report(member, read_report(message.report), now_s)
            case "kv":
                return self._change(member, message.kv, now_s)
            case _:
                return NO_HELLO
        self._desk.settle(now_s)
        return None

    def _change(self, member: Member, message: pb.KvChange, now_s: float) -> Ending | None:
        try:
            change = wire.read_change(message)
        except wire.Malformed as error:
            return Ending(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if self._core.change(member, change, now_s):
            return None
        self._log.warning("cache changes have a gap", worker=member.id, sequence=change.sequence)
        gap = f"kv sequence {change.sequence} was not due: join again with a snapshot"
        return Ending(grpc.StatusCode.ABORTED, gap)

    def _leave(self, member: Member, reason: str) -> None:
        del self._answers[member]
        now_s = time.monotonic()
        if self._core.leave(member, now_s):
            self._log.info("worker left", worker=member.id, reason=reason)
            self._desk.settle(now_s)
