"""`headway ps`: each process, and whether it is ready."""

import asyncio
import json
from typing import TypedDict

from rich.table import Table

from command.progress import wide_console
from command.readiness import is_ready
from command.state import Service, State, read_state, state_home


class Row(TypedDict):
    """One process as `--json` shows it."""

    service: str
    index: int
    pid: int
    address: str
    metrics_address: str
    ready: bool


def ps(as_json: bool) -> None:
    """Print the processes of the system that runs here; none when there is none."""
    rows = asyncio.run(_rows(read_state(state_home())))
    if as_json:
        print(json.dumps(rows, indent=1))
    elif rows:
        wide_console().print(_table(rows))
    else:
        print("nothing runs here")


async def _rows(state: State | None) -> list[Row]:
    if state is None or state.supervisor.is_over():
        return []
    return list(await asyncio.gather(*map(_row, state.services)))


async def _row(service: Service) -> Row:
    where = (service.service, service.address, service.metrics_address)
    ready = not service.life.is_over() and await is_ready(*where)
    return Row(
        service=service.service,
        index=service.index,
        pid=service.life.pid,
        address=service.address,
        metrics_address=service.metrics_address,
        ready=ready,
    )


def _table(rows: list[Row]) -> Table:
    table = Table(*("SERVICE", "INDEX", "PID", "ADDRESS", "METRICS", "READY"), box=None)
    for row in rows:
        ready = "yes" if row["ready"] else "[red]no[/red]"
        cells = [row["service"], row["index"], row["pid"], row["address"], row["metrics_address"]]
        table.add_row(*map(str, cells), ready)
    return table
