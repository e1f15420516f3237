"""`headway up`: prepares, starts the system, and stays until it is asked to end."""

import asyncio
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from command import hints, memory
from command.chosen import chat_model, embedding_model
from command.errors import CommandError
from command.guardian import Guard
from command.machine import require_libraries, this_machine
from command.options import Options
from command.plan import Model, Process, plan, wanted_ports
from command.ports import Reservations
from command.processes import kill_session
from command.progress import Progress
from command.state import metrics_of, only_system, read_state, state_home
from command.supervisor import Supervisor
from services.edge.tenants import read_tenants


def up(options: Options) -> None:
    """Run the system in the foreground. Raises CommandError when it does not come up."""
    home = state_home()
    progress = Progress()
    with only_system(home), _state_removed(home), Reservations() as reservations:
        _end_leftovers(home)
        metrics = metrics_of(home)
        processes, chat = _prepare(options, metrics, progress, reservations)
        _empty(home / "logs")
        _empty(metrics)
        asyncio.run(_run(processes, options, chat, home, progress))


@contextmanager
def _state_removed(home: Path) -> Iterator[None]:
    try:
        yield
    finally:
        (home / "state.json").unlink(missing_ok=True)
        shutil.rmtree(metrics_of(home), ignore_errors=True)


def _end_leftovers(home: Path) -> None:
    """End what a system here left behind that was killed with its guardian."""
    state = read_state(home)
    for service in state.services if state else ():
        if not service.life.is_over():
            kill_session(service.life.pid)
            service.life.wait_until_over()


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def _prepare(
    options: Options, metrics: Path, progress: Progress, reservations: Reservations
) -> tuple[Sequence[Process], Model]:
    reservations.require(options.port)
    weights = _tenant_weights(options.tenants)
    machine = this_machine()
    if options.engine == "vllm" or options.embedding_workers:
        require_libraries(machine)
    chat = chat_model(options.model, options.model_name, options.engine, progress)
    embedding = embedding_model() if options.embedding_workers else None
    memory.require_memory(memory.needed_gb(options, chat, embedding, machine))
    chosen = reservations.choose(wanted_ports(options))
    return plan(options, chat, embedding, machine, chosen, weights, str(metrics.absolute())), chat


def _tenant_weights(file: str) -> Mapping[str, float]:
    try:
        return read_tenants(Path(file).read_bytes()).weights if file else {}
    except (OSError, ValueError) as error:
        raise CommandError(f"--tenants {file}: {error}") from error


async def _run(
    processes: Sequence[Process], options: Options, chat: Model, home: Path, progress: Progress
) -> None:
    guard = await Guard.start()
    supervisor = Supervisor(processes, home, progress, guard)
    work = asyncio.create_task(_work(supervisor, options, chat, progress))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        progress.line("stopping")
    finally:
        await supervisor.end()
        await guard.close()


async def _work(supervisor: Supervisor, options: Options, chat: Model, progress: Progress) -> None:
    await supervisor.start(options.start_timeout_s)
    for line in hints.after_start(options.port, chat.names[0], _program()):
        progress.line(line)
    await supervisor.watch()
    raise CommandError("every service is down; their logs say why")


def _program() -> str:
    """How to call this command from here."""
    if shutil.which("headway"):
        return "headway"
    own = Path(sys.executable).with_name("headway")
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)
