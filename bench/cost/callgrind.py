"""Both ends of callgrind: the command around a process, and the requests made from inside it.

Callgrind translates everything but counts only between `START` and `STOP`, so that imports and
set-up, most of a run, cost little. A client request is a sequence of instructions that does
nothing on a CPU and that valgrind recognises (valgrind.h); ctypes can call it without a compiler.
"""

import ctypes
import mmap
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ARCHITECTURE = "x86_64"  # of the instructions below
_REQUEST = bytes.fromhex(
    "4889f8"  # mov rax, rdi: the arguments
    "31d2"  # xor edx, edx: the answer, where valgrind is not there
    "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi by 3, 13, 61, 51: back to what it was
    "4887db"  # xchg rbx, rbx
    "4889d0 c3"  # return rdx
)
_RUNNING_ON_VALGRIND = 0x1001
_CALLGRIND = ord("C") << 24 | ord("T") << 16
_DUMP, _ZERO, _START, _STOP = _CALLGRIND, _CALLGRIND + 1, _CALLGRIND + 4, _CALLGRIND + 5


class NotCounted(Exception):
    """There is nothing to count with. The message is one line."""


class Counter:
    """Counts this process's instructions, block by block; each block makes one dump."""

    def __init__(self) -> None:
        """Raises NotCounted outside of valgrind."""
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_REQUEST)
        code = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(code)
        if not self._ask(_RUNNING_ON_VALGRIND):
            raise NotCounted("this process does not run under valgrind")

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what the block does, and what this itself costs: some thousand instructions."""
        self._ask(_START)
        self._ask(_ZERO)
        yield
        self._ask(_DUMP)
        self._ask(_STOP)

    def _ask(self, number: int) -> int:
        arguments = (ctypes.c_uint64 * 6)(number)
        answer: int = self._call(ctypes.addressof(arguments))
        return answer


def command(valgrind: str, folder: Path) -> list[str]:
    """What goes before a command to run it under callgrind; dumps are left in the folder."""
    return [
        valgrind,
        "--tool=callgrind",
        "--quiet",
        "--instr-atstart=no",
        f"--callgrind-out-file={folder}/dump",
    ]


def counts(folder: Path) -> Sequence[int]:
    """The instructions of each block, in order."""
    dumps = sorted(folder.glob("dump.*"), key=lambda dump: int(dump.suffix[1:]))
    return [_total(dump.read_text()) for dump in dumps]


def _total(dump: str) -> int:
    [total] = re.findall(r"^totals: (\d+)$", dump, re.MULTILINE)
    return int(total)
