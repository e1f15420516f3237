"""Where and when a table was measured: figures of different runs are never to be compared."""

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.overhead.children import ROOT
from bench.overhead.gateway import Tools

_SOURCES = ("services", "observability", "command", "protos", "bench")
_PEERS = ("smg", "smg-grpc-proto", "vllm-router")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Of one run of one case."""

    commit: str
    begun: str
    cores: int
    processor: str
    nice: int
    load_average: float
    """Over the minute before."""
    part: float
    """Of the load that the case is made for; below 1 only to see that it works."""
    versions: Mapping[str, str]


def conditions(tools: Tools, part: float) -> Conditions:
    """Those of now."""
    return Conditions(
        commit=commit(),
        begun=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        nice=os.nice(0),
        load_average=round(os.getloadavg()[0], 2),
        part=part,
        versions=_versions(tools),
    )


def commit() -> str:
    """What is checked out; a `+` says that the sources differ from it."""
    found = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", *_SOURCES)
    return f"{found}{'+' if changed else ''}" or "unknown"


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions(tools: Tools) -> dict[str, str]:
    found = {"Python": platform.python_version(), "grpcio": version("grpcio")}
    found |= {name: _installed(tools.peers, name) for name in _PEERS}
    found["litellm"] = _installed(tools.litellm, "litellm")
    return {name: each for name, each in found.items() if each}


def _installed(environment: Path, name: str) -> str:
    """A package's version in another virtual environment; empty when it is not there."""
    folder = f"{name.replace('-', '_')}-*.dist-info"
    found = list(environment.glob(f"lib/python3*/site-packages/{folder}"))
    return found[0].name.removesuffix(".dist-info").partition("-")[2] if found else ""
