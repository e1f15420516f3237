"""Measures what the gateway costs, beside its peers, and writes the page about it.

`python -m bench.overhead [--cases A,B] [--gateways A,B] [--repeat N] [--out DIRECTORY]`
"""

import argparse
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import SubprocessError

import psutil

from bench.overhead import usage
from bench.overhead.cases import CASES, Case
from bench.overhead.children import ROOT, NotMeasured
from bench.overhead.conditions import conditions
from bench.overhead.gateway import Place, Tools
from bench.overhead.measuring import Measure
from bench.overhead.page import page
from bench.overhead.plots import plot
from bench.overhead.results import Measured, Result, Results, read_results, write_results
from command.models import demo_model

RESULTS, PAGE = "overhead.json", "overhead.md"
FILES = 16_384
"""That may be open: 5,000 streams are as many sockets on either side."""


def main() -> int:
    """Measure the cases one after the other; each is written when it is done."""
    arguments = _arguments()
    out: Path = arguments.out
    if arguments.render:
        _write(out, read_results(out / RESULTS))
        return 0
    _allow_files()
    # As for Ctrl-C: whatever was started ends on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tools = Tools(demo_model(), arguments.peers.absolute(), arguments.litellm.absolute())
    for name in arguments.cases:
        case = CASES[name]
        subjects = [each for each in case.subjects if each in (arguments.gateways or case.subjects)]
        if subjects:
            result = _run(name, case, subjects, tools, arguments)
            _write(out, read_results(out / RESULTS) | {name: result})
    return 0


def _run(
    name: str, case: Case, subjects: Sequence[str], tools: Tools, arguments: argparse.Namespace
) -> Result:
    measure = case.measure if arguments.part == 1 else case.measure.scaled(arguments.part)
    was, begun_s = conditions(tools, arguments.part), time.monotonic()
    print(f"{name}: {arguments.repeat} x {', '.join(subjects)}; about {case.minutes:g} min for 3")
    measured: list[Measured] = []
    for repeat in range(arguments.repeat):
        for subject in subjects:
            measured += _measured(measure, subject, repeat, tools)
    return Result(was, measured, time.monotonic() - begun_s)


def _measured(measure: Measure, subject: str, repeat: int, tools: Tools) -> Iterator[Measured]:
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as home:
        place = Place(tools, Path(home))
        begun_s, others_s = time.monotonic(), usage.others_cpu_s()

        def others_cores() -> float:
            # Both clocks tick every 10 ms, so nothing can look like a little less.
            spent_s = max(0.0, usage.others_cpu_s() - others_s)
            return spent_s / (time.monotonic() - begun_s)

        try:
            for load, figures in measure(subject, place):
                yield _told(Measured(subject, load, repeat, figures, others_cores()))
        except (NotMeasured, TimeoutError, SubprocessError, psutil.NoSuchProcess) as error:
            print(_last_lines(place.home), file=sys.stderr)
            yield _told(Measured(subject, "", repeat, {}, others_cores(), str(error)))


def _told(measured: Measured) -> Measured:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in measured.figures.items())
    print(f"  {measured.subject} {measured.load}: {figures or measured.failure}", flush=True)
    return measured


def _last_lines(home: Path) -> str:
    """What the processes said last."""
    logs = sorted(home.rglob("*.log"))
    return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-600:]}" for log in logs)


def _write(out: Path, results: Results) -> None:
    known = {name: results[name] for name in CASES if name in results}
    out.mkdir(parents=True, exist_ok=True)
    write_results(out / RESULTS, known)
    # As it is read back: rendering it again must make the same page.
    known = read_results(out / RESULTS)
    (out / PAGE).write_text(page(known))
    plot(known, out)


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("--cases", type=_cases, default=list(CASES), metavar="A,…", help=_listed())
    parser.add_argument("--gateways", type=_names, metavar="A,…", help="only these subjects")
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    parser.add_argument("--part", type=float, default=1.0, help="of the load, to try it out")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", metavar="DIR")
    parser.add_argument("--render", action="store_true", help="only make the page again")
    parser.add_argument("--peers", type=Path, default=ROOT / ".peers", metavar="VENV")
    parser.add_argument("--litellm", type=Path, default=ROOT / ".peers-litellm", metavar="VENV")
    return parser.parse_args()


def _listed() -> str:
    return ", ".join(CASES)


def _names(text: str) -> list[str]:
    return text.split(",")


def _cases(text: str) -> list[str]:
    unknown = [name for name in text.split(",") if name not in CASES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such case: {', '.join(unknown)}")
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
