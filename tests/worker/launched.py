"""A worker as its own process, as an operator starts it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headway.worker.v1 import worker_pb2_grpc
from tests.worker.fake_scheduler import FakeScheduler, listening_scheduler


@dataclass(frozen=True)
class Launched:
    """A worker process, its scheduler and a channel to it."""

    process: "subprocess.Popen[str]"
    scheduler: FakeScheduler
    address: str
    channel: grpc.Channel
    stub: worker_pb2_grpc.WorkerServiceStub

    def status(self) -> int:
        """What its health service says."""
        health: Any = health_pb2_grpc.HealthStub(self.channel)
        status: int = health.Check(health_pb2.HealthCheckRequest()).status
        return status

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


def environment(model: Path, scheduler: str, **changes: str) -> dict[str, str]:
    """The environment of a worker that simulates, unless changed."""
    root = Path(__file__).parents[2]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("WORKER_")},
        "PYTHONPATH": f"{root}:{root / 'gen'}",
        "HF_HUB_OFFLINE": "1",
        "WORKER_MODEL": str(model),
        "WORKER_MODEL_NAMES": "main,alias",
        "WORKER_SCHEDULER": scheduler,
        "WORKER_LISTEN": "127.0.0.1:0",
        "WORKER_ENGINE": "sim",
        **changes,
    }


def start(env: dict[str, str]) -> "subprocess.Popen[str]":
    """Start a worker."""
    command = [sys.executable, "-m", "services.worker"]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


@contextmanager
def launched(model: Path, logs: Path, wait_s: float = 20.0, **changes: str) -> Iterator[Launched]:
    """A worker that has joined; its log goes to a file, so that no pipe fills up."""
    scheduler = listening_scheduler()
    env = environment(model, scheduler.address, **changes)
    with logs.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.worker"], env=env, stdout=log, stderr=log, text=True
        )
    try:
        address = scheduler.hellos.get(timeout=wait_s).address
        with grpc.insecure_channel(address) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            yield Launched(process, scheduler, address, channel, stub)
    finally:
        process.kill()
        process.wait()
        scheduler.stop()


def children(pid: int) -> dict[int, str]:
    """The processes below a process, by id, with their names."""
    lines = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    rows = [line.split(None, 2) for line in lines]
    parents = {int(each): int(parent) for each, parent, *_ in rows}
    names = {int(each): name[0] for each, _, *name in rows}
    return {each: names[each] for each in parents if pid in _ancestors(each, parents)}


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid


def wait_until_gone(pids: list[int], timeout_s: float = 10.0) -> list[int]:
    """The processes that are still there after a while."""
    deadline_s = time.monotonic() + timeout_s
    left = pids
    while left and time.monotonic() < deadline_s:
        left = [pid for pid in left if Path(f"/proc/{pid}").exists()]
        time.sleep(0.05)
    return left
