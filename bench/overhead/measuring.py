"""How a gateway is measured: loaded, or left alone."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

from bench.overhead import usage
from bench.overhead.children import ROOT, NotMeasured
from bench.overhead.figures import Figures
from bench.overhead.gateway import FAST, Gateway, Place
from bench.overhead.gateways import GATEWAYS
from bench.overhead.load import flags
from bench.overhead.sharing import given
from bench.overhead.workload import Load
from services.worker.sim_core import SimSettings

WARM_UP = Load(requests=50, at_once=16, prompt_tokens=50, max_tokens=8, seed=99)
SETTLED_S = 1.0
LONGEST_S = 900.0
FAILED_PART = 0.01
"""Whoever refuses more of a load has not borne it."""
Labelled = tuple[str, Figures]
"""Figures, and which load of its case they are of."""


class Measure(Protocol):
    """How a case is measured."""

    def __call__(self, subject: str, place: Place) -> Iterator[Labelled]:
        """Measure a subject, which is mostly a gateway by its name."""

    def scaled(self, part: float) -> Self:
        """The same with less to do, to see that it works."""


def paced(step_ms: float) -> SimSettings:
    """Engines whose steps take so long."""
    return replace(FAST, base_ms=step_ms)


@dataclass(frozen=True, slots=True)
class UnderLoad:
    """One load after the other through a gateway, and the CPU of its processes meanwhile."""

    loads: tuple[Load, ...]
    pace: SimSettings = FAST
    warm_up: Load = WARM_UP
    edge_share: float = 1.0
    """The part of a core that each edge gets."""

    def __call__(self, subject: str, place: Place) -> Iterator[Labelled]:
        """The figures of each load."""
        with GATEWAYS[subject](replace(place, pace=self.pace)) as gateway:
            run_load(gateway.url, self.warm_up)
            time.sleep(SETTLED_S)
            with given(self.edge_share, gateway.services.get("edge", ())):
                for load in self.loads:
                    yield load.label, _charged(gateway, load)

    def scaled(self, part: float) -> Self:
        """With fewer requests, but all callers."""
        loads = [
            replace(load, requests=max(load.at_once, 8, round(part * load.requests)))
            for load in self.loads
        ]
        return replace(self, loads=tuple(loads))


@dataclass(frozen=True, slots=True)
class AtRest:
    """The CPU of a gateway that nobody asks anything."""

    seconds: float

    def __call__(self, subject: str, place: Place) -> Iterator[Labelled]:
        """In milliseconds a second."""
        with GATEWAYS[subject](replace(place, pace=paced(20))) as gateway:
            run_load(gateway.url, WARM_UP)
            time.sleep(SETTLED_S)
            before = _cpu_s(gateway)
            time.sleep(self.seconds)
            spent = _spent(before, _cpu_s(gateway))
            yield "", {f"{name}_ms_a_s": s * 1e3 / self.seconds for name, s in spent.items()}

    def scaled(self, part: float) -> Self:
        """For less long."""
        return replace(self, seconds=part * self.seconds)


def run_load(url: str, load: Load) -> dict[str, float]:
    """The figures of a load, which runs in a process of its own. Raises NotMeasured."""
    command = [sys.executable, "-m", "bench.overhead.load", "--url", url, *flags(load)]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    if run.stderr:
        print(run.stderr.rstrip(), file=sys.stderr)
    if run.returncode != 0:
        raise NotMeasured(f"the load ended with code {run.returncode}")
    figures: dict[str, float] = json.loads(run.stdout)
    asked = figures["requests"] + figures["failed"]
    if figures["failed"] > FAILED_PART * asked:
        raise NotMeasured(f"{figures['failed']:.0f} of {asked:.0f} requests failed")
    return figures


def _charged(gateway: Gateway, load: Load) -> Figures:
    before = _cpu_s(gateway)
    figures = run_load(gateway.url, load)
    spent = _spent(before, _cpu_s(gateway))
    if not gateway.services:
        return figures
    # By answers that are whole: what failed was paid for all the same.
    for name, seconds in spent.items():
        figures[f"{name}_us_a_token"] = seconds / figures["tokens"] * 1e6
        figures[f"{name}_ms_a_request"] = seconds / figures["requests"] * 1e3
        figures[f"{name}_cores"] = seconds / figures["seconds"]
    pids = [pid for pids in gateway.services.values() for pid in pids]
    figures["rss_mb"] = usage.rss_bytes(pids) / 1e6
    return figures


def _cpu_s(gateway: Gateway) -> dict[str, float]:
    return {name: usage.cpu_s(pids) for name, pids in gateway.services.items()}


def _spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds of each service, and of all together as `cpu`."""
    spent = {name: after[name] - before[name] for name in after}
    return spent | {"cpu": sum(spent.values())}
