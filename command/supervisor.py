"""Runs the processes of a plan: starts them in order, restarts what dies, ends all."""

import asyncio
import os
import time
from asyncio.subprocess import Process as Child
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from command.errors import CommandError
from command.guardian import Guard
from command.logs import last_line
from command.plan import Process
from command.processes import end_all, kill_session, start
from command.progress import Progress
from command.readiness import until_ready
from command.restarts import Restarts
from command.state import Service, State, life_of, metrics_of, write_state

# First what others need, last what callers see.
STAGES = (("scheduler", "tokenizer"), ("worker",), ("edge",))

# Both together stay below the 10 s in which `up` promises to end.
EDGES_END_S = 5.0
REST_END_S = 4.5


class Supervisor:
    """The processes of one plan."""

    def __init__(
        self, plan: Sequence[Process], home: Path, progress: Progress, guard: Guard
    ) -> None:
        self._plan = plan
        self._home = home
        self._progress = progress
        self._guard = guard
        self._children: dict[str, Child] = {}
        self._services: dict[str, Service] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._state = State(life_of(os.getpid()))

    async def start(self, timeout_s: float) -> None:
        """Start everything, each stage when the one before is ready.

        Raises CommandError when a process ends or is not ready in time.
        """
        self._write_state(ready=False)
        for services in STAGES:
            stage = [process for process in self._plan if process.service in services]
            with self._progress.waiting(f"starting {', '.join(each.name for each in stage)}"):
                await self._start_stage(stage, timeout_s)
        self._write_state(ready=True)

    async def _start_stage(self, stage: Sequence[Process], timeout_s: float) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for process in stage:
                    group.create_task(self._start(process, timeout_s))
        except* CommandError as errors:
            raise errors.exceptions[0] from None

    async def _start(self, process: Process, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                code = await self._launch(process)
        except TimeoutError as error:
            said = self._said(process)
            raise CommandError(
                f"{process.name} is not ready after {timeout_s:g} s{said}"
            ) from error
        if code is not None:
            raise CommandError(f"{process.name} ended with code {code}{self._said(process)}")
        self._keepers.append(asyncio.create_task(self._keep(process)))

    async def _launch(self, process: Process) -> int | None:
        """Start a process; None when it is ready, its exit code when it ended before that."""
        begun = time.monotonic()
        log = self._log(process)
        child = await start(f"services.{process.service}", process.env, log)
        self._guard.watch(child.pid)
        self._children[process.name] = child
        self._services[process.name] = _service(process, child)
        self._write_state(self._state.ready)
        code = await _exit_or_ready(child, process)
        if code is None:
            self._progress.ready(process.name, process.address, time.monotonic() - begun)
        return code

    async def watch(self) -> None:
        """Restart what dies, until cancelled."""
        await asyncio.gather(*self._keepers)

    async def _keep(self, process: Process) -> None:
        restarts = Restarts()
        while True:
            code = await self._children[process.name].wait()
            self._bury(process, self._children[process.name])
            delay_s = restarts.delay(time.monotonic())
            fate = "left down" if delay_s is None else f"starting again in {delay_s:g} s"
            said = self._said(process)
            self._progress.line(f"{process.name} ended with code {code}{said}; {fate}")
            if delay_s is None:
                return
            await asyncio.sleep(delay_s)
            await self._launch(process)

    def _bury(self, process: Process, child: Child) -> None:
        # What it had started may have outlived it, and would hold memory and ports.
        kill_session(child.pid)
        self._guard.forget(child.pid)
        # An edge's open requests ended with it; what it has counted stays.
        mark_process_dead(process.name, str(metrics_of(self._home)))  # type: ignore[no-untyped-call]

    async def end(self) -> None:
        """End everything, first what callers see; what does not end in time is killed."""
        for keeper in self._keepers:
            keeper.cancel()
        edges = [child for name, child in self._children.items() if name.startswith("edge")]
        rest = [child for child in self._children.values() if child not in edges]
        await end_all(edges, EDGES_END_S)
        await end_all(rest, REST_END_S)
        for child in self._children.values():
            self._guard.forget(child.pid)

    def _log(self, process: Process) -> Path:
        return self._home / "logs" / f"{process.name}.log"

    def _said(self, process: Process) -> str:
        log = self._log(process)
        said = last_line(log)
        return f": {said} (log: {log})" if said else f" (log: {log})"

    def _write_state(self, ready: bool) -> None:
        names = [process.name for process in self._plan if process.name in self._services]
        services = tuple(self._services[name] for name in names)
        self._state = State(self._state.supervisor, services, ready)
        write_state(self._home, self._state)


def _service(process: Process, child: Child) -> Service:
    return Service(
        process.service,
        process.index,
        process.address,
        process.metrics_address,
        life_of(child.pid),
    )


async def _exit_or_ready(child: Child, process: Process) -> int | None:
    exited = asyncio.create_task(child.wait())
    answers = until_ready(process.service, process.address, process.metrics_address)
    ready = asyncio.create_task(answers)
    try:
        await asyncio.wait({exited, ready}, return_when=asyncio.FIRST_COMPLETED)
        return exited.result() if exited.done() else None
    finally:
        exited.cancel()
        ready.cancel()
