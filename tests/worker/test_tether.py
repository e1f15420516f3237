"""A program that is tethered dies with its parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from services.worker import tether
from tests.worker.launched import wait_until_gone

PARENT = """
import os, subprocess, sys
from pathlib import Path
from services.worker import tether
launcher = Path(sys.argv[1])
launcher.write_text(tether.launcher(sys.executable, os.getpid()))
launcher.chmod(0o700)
child = subprocess.Popen([launcher, "-c", "print('up', flush=True); import time; time.sleep(60)"],
                         stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def test_sigkill_takes_the_child_along(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(tether.__file__).parents[2])}
    command = [sys.executable, "-c", PARENT, str(tmp_path / "python")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.send_signal(signal.SIGKILL)
    assert wait_until_gone([child]) == []


def test_a_parent_that_is_gone_already_means_no_start(tmp_path: Path) -> None:
    launcher = tmp_path / "python"
    launcher.write_text(tether.launcher(sys.executable, 1))
    launcher.chmod(0o700)
    done = subprocess.run([launcher, "-c", "print('up')"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the parent process is gone" in done.stderr
