"""Makes the tables of a page again, each by the command that the page names above it.

`python -m bench.pages docs/benchmarks/index.md [--only WORD]`

A table stands between `<!-- made by: python -m … -->` and `<!-- end -->`; what the command prints
replaces what is there, under a line that says when and on what it ran. A command that names a
variable which is not set (`$MOONCAKE`) is left out.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from string import Template

from bench.overhead.conditions import commit

_MADE = re.compile(
    r"(?P<begin><!-- made by: (?P<command>[^\n]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)


def commands(text: str) -> list[str]:
    """What the page's tables are made by, in their order."""
    return [found["command"] for found in _MADE.finditer(text)]


def replaced(text: str, command: str, table: str) -> str:
    """The page with another table under this command."""

    def fresh(found: re.Match[str]) -> str:
        if found["command"] != command:
            return found[0]
        return f"{found['begin']}\n{table.strip()}\n\n{found['end']}"

    return _MADE.sub(fresh, text)


def unset(command: str) -> list[str]:
    """The variables that a command needs and that are not set."""
    return [name for name in Template(command).get_identifiers() if not os.environ.get(name)]


def main() -> int:
    """Run the commands one after the other; 1 when one failed, whose table is left as it is."""
    arguments = _arguments()
    page: Path = arguments.page
    wanted = [each for each in commands(page.read_text()) if arguments.only in each]
    failed = False
    for command in wanted:
        if missing := unset(command):
            print(f"-- left as it is, {', '.join(missing)} is not set: {command}", flush=True)
        else:
            print(f"-- {command}", flush=True)
            failed |= not _make(page, command)
    return 1 if failed else 0


def _make(page: Path, command: str) -> bool:
    load_average, day, begun_s = os.getloadavg()[0], time.strftime("%Y-%m-%d"), time.monotonic()
    program, *rest = shlex.split(Template(command).substitute(os.environ))
    assert program == "python", command
    run = subprocess.run([sys.executable, *rest], stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - begun_s
    print(f"{run.stdout}-- {seconds:.0f} s", flush=True)
    if run.returncode != 0:
        print(f"-- FAILED with code {run.returncode}: {command}", flush=True)
        return False
    conditions = (
        f"*`{command}`: commit `{commit()}`, {day}, {len(os.sched_getaffinity(0))} cores, load"
        f" average {load_average:.2f} before, {seconds:.0f} s.*"
    )
    # Read again: others may have changed the page meanwhile.
    page.write_text(replaced(page.read_text(), command, f"{conditions}\n\n{run.stdout}"))
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("page", type=Path, help="a file of docs/benchmarks/")
    parser.add_argument("--only", default="", metavar="WORD", help="commands that contain it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
