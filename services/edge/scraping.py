"""What `/metrics` answers: of this process, or of all edges that share a port.

Which of several edges a scraper reaches is chance, so each answers for all. Every process keeps
its values in files of its own in one directory, by prometheus_client's multiprocess mode, and the
files are added up. A process that is started again has the files of its earlier life, by its name
(metrics.py), so that nothing falls; its gauges are removed by whoever saw it die
(`mark_process_dead`), as nothing is open in it any more.

The price, measured: an `inc` takes 1.0 µs and not 0.4, an `observe` 2.1 and not 1.0, so some 25 µs
a request, with several edges only; a scrape takes 4 ms and 0.8 more for each further edge. Asking
the others at each scrape would cost a request nothing, but forget what a dead one had counted.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported


def scrape_of(env: Mapping[str, str]) -> Callable[[], bytes]:
    """What answers `/metrics` in this environment."""
    if not env.get(DIRECTORY):
        return generate_latest
    registry = CollectorRegistry()
    registry.register(_AllEdges(Path(env[DIRECTORY])))
    return lambda: generate_latest(registry)


class _AllEdges(Collector):
    """Adds up the files of all edges."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        # In one order: added up in another, a sum could come out smaller, by its last bit.
        files = [str(file) for file in sorted(self._directory.glob("*.db")) if _is_begun(file)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return metrics


def _is_begun(file: Path) -> bool:
    """Whether there is something in it: the library cannot read one that was just made."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False  # a gauge's, whose process has died meanwhile
