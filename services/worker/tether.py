"""Runs a program that dies with whoever started it, even by SIGKILL. Linux only.

The kernel counts the *thread* that started the program as its parent: it has to live on.
Started as a script, in a bare interpreter, as `tether.py PARENT_PID PROGRAM ARGUMENT…`.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent_pid: int, program: list[str]) -> None:
    """Bind this process to its parent, and become the program."""
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit("cannot be bound to the parent process")
    if os.getppid() != parent_pid:  # it died before we were bound
        sys.exit("the parent process is gone")
    os.execv(program[0], program)


def launcher(python: str, parent_pid: int) -> str:
    """A shell script that runs `python` tethered, with whatever arguments it gets."""
    return f"#!/bin/sh\nexec '{python}' -IS '{__file__}' {parent_pid} '{python}' \"$@\"\n"


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
