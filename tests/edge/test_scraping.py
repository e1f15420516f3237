"""What `/metrics` answers when several edges share a port."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.parser import text_string_to_metric_families

from services.edge.metrics import NAME
from services.edge.scraping import DIRECTORY, scrape_of

# An edge, as far as its counts are concerned: answers requests, and has one open until it ends.
EDGE = """
import sys
from services.edge import metrics
metrics.requests.labels("chat", "200").inc(int(sys.argv[1]))
for _ in range(int(sys.argv[1])):
    metrics.ttft.labels("m").observe(float(sys.argv[2]))
metrics.open_requests.inc()
print("counted", flush=True)
sys.stdin.read()
"""


class Edges:
    """Processes that count in one directory."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack
        self._scrape = scrape_of({DIRECTORY: str(directory)})

    def start(self, name: str, requests: int, ttft_s: float = 0.2) -> "subprocess.Popen[bytes]":
        """One that has answered so many requests in this life."""
        edge = subprocess.Popen(
            [sys.executable, "-c", EDGE, str(requests), str(ttft_s)],
            env={**os.environ, DIRECTORY: str(self.directory), NAME: name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._stack.enter_context(edge)
        self._stack.callback(edge.kill)
        assert edge.stdout is not None
        assert edge.stdout.readline() == b"counted\n"
        return edge

    def counts(self) -> dict[str, float]:
        """Requests answered, those in the histogram of TTFT and their sum, and those open."""
        families = text_string_to_metric_families(self._scrape().decode())
        samples = [sample for family in families for sample in family.samples]
        named = {sample.name: sample.value for sample in samples}
        assert len(named) < len(samples), "a histogram has many buckets"
        return {
            "answered": named["headway_edge_requests_total"],
            "timed": named["headway_edge_ttft_seconds_count"],
            "ttft_s": named["headway_edge_ttft_seconds_sum"],
            "open": named.get("headway_edge_open_requests", 0),
        }


@pytest.fixture
def edges(tmp_path: Path) -> Iterator[Edges]:
    with ExitStack() as stack:
        yield Edges(tmp_path, stack)


def test_an_edge_alone_answers_for_itself() -> None:
    assert scrape_of({}) is generate_latest
    assert scrape_of({DIRECTORY: ""}) is generate_latest


def test_any_edge_answers_for_all_and_what_a_dead_one_counted_stays(edges: Edges) -> None:
    first = edges.start("edge-0", 3, ttft_s=0.5)
    edges.start("edge-1", 4, ttft_s=0.25)
    both = {"answered": 7, "timed": 7, "ttft_s": 2.5, "open": 2}
    assert edges.counts() == both
    first.kill()
    first.wait()
    mark_process_dead("edge-0", str(edges.directory))  # type: ignore[no-untyped-call]
    assert edges.counts() == both | {"open": 1}
    edges.start("edge-0", 2, ttft_s=0.5)
    assert edges.counts() == {"answered": 9, "timed": 9, "ttft_s": 3.5, "open": 2}
    assert len(list(edges.directory.iterdir())) == 6, "a life more is not a file more"


def test_an_edge_that_just_starts_keeps_nobody_from_answering(edges: Edges) -> None:
    edges.start("edge-0", 1)
    (edges.directory / "counter_edge-1.db").touch()
    assert edges.counts()["answered"] == 1


@pytest.mark.parametrize("backwards", [False, True])
def test_a_sum_does_not_depend_on_the_order_of_the_directory(
    edges: Edges, monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    for number, ttft_s in enumerate((0.1, 0.2, 0.3)):
        edges.start(f"edge-{number}", 1, ttft_s)
    files = sorted(edges.directory.iterdir(), reverse=backwards)
    monkeypatch.setattr(Path, "glob", lambda *_: files)
    assert edges.counts()["ttft_s"] == 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
