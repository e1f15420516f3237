"""What runs, on disk: written by `up`, read by every other command.

A process is known by its pid *and* its start time, so that a pid used again is never mistaken.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from command.errors import CommandError


@dataclass(frozen=True, slots=True)
class Life:
    """One process, by pid and start time (seconds since 1970)."""

    pid: int
    started: float

    def is_over(self) -> bool:
        """Whether the process has ended; one that nobody has waited for has."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            return not same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def wait_until_over(self, patience_s: float = 5.0) -> bool:
        """Whether the process has ended within `patience_s`."""
        deadline = time.monotonic() + patience_s
        while not self.is_over():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def life_of(pid: int) -> Life:
    """The life that has this pid now."""
    return Life(pid, psutil.Process(pid).create_time())


@dataclass(frozen=True, slots=True)
class Service:
    """One running service process."""

    service: str
    index: int
    address: str
    metrics_address: str
    life: Life


@dataclass(frozen=True, slots=True)
class State:
    """A system: its supervisor, its services, and whether all were ready once."""

    supervisor: Life
    services: tuple[Service, ...] = ()
    ready: bool = False

    def addresses(self, service: str) -> list[str]:
        """Where the processes of a service listen."""
        return [each.address for each in self.services if each.service == service]


def state_home() -> Path:
    """`$HEADWAY_STATE`, by default `.headway` in the working directory."""
    return Path(os.environ.get("HEADWAY_STATE") or ".headway")


def metrics_of(home: Path) -> Path:
    """Where several edges keep what they count, while the system runs."""
    return home / "metrics"


def read_state(home: Path) -> State | None:
    """The state last written, whether or not its processes still live."""
    try:
        data = json.loads((home / "state.json").read_text())
    except FileNotFoundError:
        return None
    services = tuple(Service(**{**each, "life": Life(**each["life"])}) for each in data["services"])
    return State(Life(**data["supervisor"]), services, data["ready"])


def write_state(home: Path, state: State) -> None:
    """Replace the state in one step: a reader sees the old one or the new one."""
    fresh = home / "state.json.new"
    fresh.write_text(json.dumps(asdict(state), indent=1))
    fresh.replace(home / "state.json")


def running(home: Path) -> State:
    """The state of the system that runs here. Raises CommandError when none does."""
    state = read_state(home)
    if state is None or state.supervisor.is_over():
        raise CommandError("nothing runs here; start it with `headway up`")
    return state


@contextmanager
def only_system(home: Path) -> Iterator[None]:
    """Hold `home` for one system. Raises CommandError while another holds it."""
    home.mkdir(parents=True, exist_ok=True)
    # The kernel lets go of the lock when the process ends, however it ends.
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(
                f"a system runs here already ({home}); stop it with `headway down`, "
                "or set HEADWAY_STATE to another directory"
            ) from error
        yield
