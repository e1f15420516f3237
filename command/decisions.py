"""`headway workers --decisions`: what the scheduler decided last, and what came true."""

import json
from collections.abc import Iterable, Iterator

from rich.table import Table

from command.errors import CommandError
from command.fleet import TIMEOUT_S, UNKNOWN, scheduler_at
from command.progress import wide_console
from headway.scheduler.v1 import scheduler_pb2 as pb
from services.scheduler.plain import plain

MOST = 1024
TEXTS = ("REQUEST", "TENANT", "WORKER")
FIGURES = ("OF", "PROMPT", "CACHED", "QUEUE", "WAITED", "PREDICTED", "ACTUAL", "ERROR", "AGE")


def decisions(limit: int, as_json: bool, address: str = "") -> None:
    """Print the last decisions, newest first."""
    if not 1 <= limit <= MOST:
        raise CommandError(f"--decisions must be 1 to {MOST}, got {limit}")
    with scheduler_at(address) as scheduler:
        request = pb.ListDecisionsRequest(limit=limit)
        answer = scheduler.ListDecisions(request, timeout=TIMEOUT_S)
    if as_json:
        print(json.dumps(plain(answer)["decisions"], indent=1))
        return
    wide_console().print(decisions_table(answer.decisions))
    print(_legend(len(answer.decisions)))


def decisions_table(records: Iterable[pb.DecisionRecord]) -> Table:
    """One row a decision."""
    table = Table(box=None)
    for heading in TEXTS:
        table.add_column(heading)
    for heading in FIGURES:
        table.add_column(heading, justify="right")
    for record in records:
        table.add_row(*_cells(record))
    return table


def _cells(record: pb.DecisionRecord) -> Iterator[str]:
    decision = record.decision
    yield record.request_id
    yield record.tenant or UNKNOWN
    yield record.worker_id
    yield str(decision.candidates)
    yield str(record.prompt_tokens)
    yield str(record.cached_tokens)
    yield str(decision.queued_prefill_tokens)
    yield f"{record.waited_us / 1000:.1f}"
    predicted = decision.predicted_ttft_ms if decision.HasField("predicted_ttft_ms") else None
    actual = record.actual_ttft_ms if record.HasField("actual_ttft_ms") else None
    yield _ms(predicted)
    yield _ms(actual)
    yield UNKNOWN if predicted is None or actual is None else _error(predicted, actual)
    yield f"{record.age_ms / 1000:.1f} s"


def _ms(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"


def _error(predicted: float, actual: float) -> str:
    """How far off, in milliseconds and of what came true."""
    share = f" ({(predicted - actual) / actual:+.0%})" if actual else ""
    return f"{predicted - actual:+.1f}{share}"


def _legend(count: int) -> str:
    if not count:
        return "nothing has been decided yet"
    return (
        "OF: workers that were considered; PROMPT, CACHED, QUEUE: tokens; WAITED, PREDICTED and\n"
        "ACTUAL time to first token, ERROR: milliseconds; --json shows the others considered"
    )
