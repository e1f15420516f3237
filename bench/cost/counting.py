"""Runs the workloads under callgrind, in a process of their own."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cost.baseline import Cost
from bench.cost.callgrind import ARCHITECTURE, NotCounted, command, counts

ROOT = Path(__file__).parents[2]
PYTHON = ".".join(platform.python_version_tuple()[:2])
_KEPT = ("HOME", "HEADWAY_MODELS", "PATH")
_COUNTED_TOO = (
    "fastokens",
    "grpcio",
    "httptools",
    "msgspec",
    "numpy",
    "opentelemetry-sdk",
    "prometheus-client",
    "protobuf",
    "structlog",
    "tokenizers",
    "uvicorn",
    "uvloop",
)


def count(keep: Path | None = None) -> dict[str, Cost]:
    """Count all; 20 s. Dumps are left in the new folder `keep`, if one is given.

    Raises NotCounted.
    """
    if keep is not None:
        keep.mkdir(parents=True)
        return _count(_valgrind(), keep.resolve())
    with TemporaryDirectory() as folder:
        return _count(_valgrind(), Path(folder))


def versions() -> dict[str, str]:
    """Of all whose instructions are counted beside Headway's own. Raises NotCounted."""
    asked = subprocess.run([_valgrind(), "--version"], capture_output=True, text=True, check=True)
    return {
        "Python": f"{platform.python_version()} ({platform.python_compiler()})",
        "libc": " ".join(platform.libc_ver()),
        "valgrind": asked.stdout.strip().removeprefix("valgrind-"),
        **{package: version(package) for package in _COUNTED_TOO},
    }


def _valgrind() -> str:
    if platform.machine() != ARCHITECTURE:
        raise NotCounted(f"instructions are counted on {ARCHITECTURE} only")
    found = shutil.which("valgrind")
    if found is None:
        raise NotCounted("valgrind is not installed: `make valgrind` does that, as root")
    return found


def _count(valgrind: str, folder: Path) -> dict[str, Cost]:
    done = subprocess.run(
        [*command(valgrind, folder), sys.executable, "-m", "bench.cost.counted"],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotCounted(f"the workloads failed:\n{done.stderr[-4000:]}")
    counted = zip(json.loads(done.stdout), counts(folder), strict=True)
    return {name: Cost(unit, round(total / units)) for (name, unit, units), total in counted}


def _environment() -> Mapping[str, str]:
    """Little, and the same everywhere."""
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        "PYTHONHASHSEED": "0",
        "RAYON_NUM_THREADS": "1",  # a thread for each core would make the count the machine's
        "TOKENIZERS_PARALLELISM": "false",
    }
