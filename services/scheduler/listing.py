"""The fleet as messages, for people and for edges. No decision is made here."""

from headway.scheduler.v1 import scheduler_pb2 as pb
from services.scheduler.decisions import DecisionRecord
from services.scheduler.facts import Hello
from services.scheduler.fleet import Fleet, Member
from services.scheduler.reports import write_report
from services.scheduler.scheduler import Scheduler
from services.scheduler.wire import KINDS_ON_WIRE, write_decision


def write_workers(core: Scheduler, model: str, now_s: float) -> pb.ListWorkersResponse:
    """Every worker as the scheduler sees it; those of `model` unless that is empty."""
    members = [
        member for member in core.fleet.members() if not model or model in member.hello.models
    ]
    return pb.ListWorkersResponse(
        workers=[_write_status(core, member, now_s) for member in members],
        queued_requests=len(core.queue),
        policy=core.policy.name,
    )


def write_decisions(core: Scheduler, limit: int, now_s: float) -> pb.ListDecisionsResponse:
    """The last decisions, newest first."""
    records = core.decisions.last(limit)
    return pb.ListDecisionsResponse(decisions=[_write_record(each, now_s) for each in records])


def _write_record(record: DecisionRecord, now_s: float) -> pb.DecisionRecord:
    request, placed = record.request, record.placed
    message = pb.DecisionRecord(
        request_id=request.key.request_id,
        model=request.pool.model,
        adapter=request.pool.adapter,
        tenant=request.tenant,
        prompt_tokens=request.prompt_tokens,
        worker_id=placed.worker_id,
        cached_tokens=placed.cached_tokens,
        waited_us=round(placed.waited_s * 1e6),
        age_ms=round((now_s - record.decided_s) * 1000),
        considered=[
            pb.ConsideredWorker(
                worker_id=each.worker_id,
                cached_tokens=each.cached_tokens,
                queued_prefill_tokens=each.queued_tokens,
                requests=each.requests,
                predicted_ttft_ms=each.predicted_ttft_s * 1000,
            )
            for each in record.considered
        ],
    )
    write_decision(message.decision, placed.decision)
    if record.actual_ttft_s is not None:
        message.actual_ttft_ms = record.actual_ttft_s * 1000
    return message


def write_fleet(fleet: Fleet) -> pb.WatchFleetResponse:
    """The whole fleet, as much as an edge needs."""
    return pb.WatchFleetResponse(workers=[_write_worker(member) for member in fleet.members()])


def _write_worker(member: Member) -> pb.FleetWorker:
    hello = member.hello
    return pb.FleetWorker(
        worker_id=hello.worker_id,
        address=hello.address,
        kind=KINDS_ON_WIRE[hello.kind],
        models=hello.models,
        adapters=hello.adapters,
        max_model_tokens=hello.max_model_tokens,
        draining=member.draining,
    )


def _write_status(core: Scheduler, member: Member, now_s: float) -> pb.WorkerStatus:
    return pb.WorkerStatus(
        hello=_write_hello(member.hello),
        report=None if member.report is None else write_report(member.report),
        draining=member.draining,
        placed_requests=int(core.books.placed[member.slot]),
        queued_prefill_tokens=int(core.books.queued_tokens[member.slot]),
        cached_blocks=core.index.blocks_of(member.slot),
        silent_ms=round((now_s - member.heard_s) * 1000),
    )


def _write_hello(hello: Hello) -> pb.Hello:
    return pb.Hello(
        worker_id=hello.worker_id,
        address=hello.address,
        epoch=hello.epoch,
        kind=KINDS_ON_WIRE[hello.kind],
        models=hello.models,
        adapters=hello.adapters,
        block_size=hello.block_size,
        capacity_blocks=hello.capacity_blocks,
        max_running=hello.max_running,
        step_budget_tokens=hello.step_budget_tokens,
        max_model_tokens=hello.max_model_tokens,
        engine=hello.engine,
    )
