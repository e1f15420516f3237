"""The fleet as a table."""

import pytest
from rich.console import Console

from command.errors import CommandError
from command.fleet import drain, fleet_table, workers
from headway.scheduler.v1 import scheduler_pb2 as pb

HELLO = pb.Hello(worker_id="a", models=["m"], engine="sim")


def shown(worker: pb.WorkerStatus) -> str:
    """The cells of its row."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(fleet_table(pb.ListWorkersResponse(workers=[worker])))
    return " ".join(capture.get().splitlines()[1].split())


def test_a_worker_and_its_load() -> None:
    report = pb.Report(
        running_requests=3,
        waiting_requests=1,
        kv_usage=0.5,
        prefix_queried_tokens=100,
        prefix_hit_tokens=64,
    )
    worker = pb.WorkerStatus(
        hello=HELLO, report=report, queued_prefill_tokens=70, cached_blocks=9, silent_ms=12
    )
    assert shown(worker) == "a m sim live 3 1 70 50% 9 64% 12 ms"


def test_what_a_worker_has_not_said_is_not_zero() -> None:
    worker = pb.WorkerStatus(hello=HELLO, draining=True)
    assert shown(worker) == "a m sim draining - - 0 - 0 - 0 ms"


def test_a_scheduler_that_does_not_answer_is_one_clear_line() -> None:
    with pytest.raises(CommandError, match="no scheduler answers"):
        workers(as_json=False, address="127.0.0.1:1")
    with pytest.raises(CommandError, match="no scheduler answers"):
        drain("a", "127.0.0.1:1")
