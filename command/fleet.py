"""`headway workers` and `headway drain`: the fleet as the scheduler sees it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from rich.table import Table

from command.errors import CommandError
from command.progress import wide_console
from command.state import running, state_home
from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1.scheduler_pb2_grpc import SchedulerServiceStub
from services.scheduler.plain import plain

TIMEOUT_S = 5.0
UNKNOWN = "-"


def workers(as_json: bool, address: str = "") -> None:
    """Print the workers and their load."""
    with scheduler_at(address) as scheduler:
        answer = scheduler.ListWorkers(pb.ListWorkersRequest(), timeout=TIMEOUT_S)
    if as_json:
        print(json.dumps(plain(answer), indent=1))
        return
    wide_console().print(fleet_table(answer))
    print(f"policy {answer.policy}, {answer.queued_requests} requests wait")


def drain(worker: str, address: str = "") -> None:
    """Take a worker out of the fleet."""
    with scheduler_at(address) as scheduler:
        request = pb.DrainWorkerRequest(worker_id=worker)
        answer = scheduler.DrainWorker(request, timeout=TIMEOUT_S)
    print(f"{worker} is draining; it still has {answer.placed_requests} requests to finish")


@contextmanager
def scheduler_at(address: str) -> Iterator[SchedulerServiceStub]:
    """Calls the scheduler there, or without an address that of the system here.

    Raises CommandError.
    """
    addresses = [address] if address else running(state_home()).addresses("scheduler")
    if not addresses:
        raise CommandError("the scheduler is not started yet")
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(addresses[0], options=options) as channel:
        try:
            yield SchedulerServiceStub(channel)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise CommandError(f"no scheduler answers at {addresses[0]}") from error
            raise CommandError(f"the scheduler says: {error.details()}") from error


def fleet_table(answer: pb.ListWorkersResponse) -> Table:
    """One row a worker."""
    table = Table("WORKER", "MODEL", "ENGINE", "STATE", box=None)
    for heading in ("RUN", "WAIT", "QUEUED", "KV", "BLOCKS", "HITS", "SILENT"):
        table.add_column(heading, justify="right")
    adapted = any(worker.hello.adapters for worker in answer.workers)
    if adapted:
        table.add_column("ADAPTERS LOADED")
    for worker in answer.workers:
        loaded = ", ".join(worker.report.loaded_adapters) or UNKNOWN
        table.add_row(*_cells(worker), *[loaded] * adapted)
    return table


def _cells(worker: pb.WorkerStatus) -> Iterator[str]:
    hello, report = worker.hello, worker.report
    yield hello.worker_id
    yield hello.models[0]
    yield hello.engine
    yield "draining" if worker.draining else "live"
    known = worker.HasField("report")  # unknown is not zero
    yield str(report.running_requests) if known else UNKNOWN
    yield str(report.waiting_requests) if known else UNKNOWN
    yield str(worker.queued_prefill_tokens)
    yield f"{report.kv_usage:.0%}" if known else UNKNOWN
    yield str(worker.cached_blocks)
    yield _share(report.prefix_hit_tokens, report.prefix_queried_tokens)
    yield f"{worker.silent_ms} ms"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else UNKNOWN
