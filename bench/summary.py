"""What a load run is summed up to, in the shape that ghz made familiar. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

PERCENTS = (10, 25, 50, 75, 90, 95, 99)
BUCKETS = 10
BAR = 40


@dataclass(slots=True)
class Run:
    """The answers of a run: latencies in milliseconds of those that succeeded, and all statuses."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of an ordered, non-empty sequence."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def histogram(ordered: Sequence[float]) -> list[tuple[float, int]]:
    """Equal buckets from the fastest to the slowest: upper bound and count of each."""
    low, high = ordered[0], ordered[-1]
    width = (high - low) / BUCKETS or 1.0
    counts = Counter(min(int((value - low) / width), BUCKETS - 1) for value in ordered)
    return [(low + width * (bucket + 1), counts[bucket]) for bucket in range(BUCKETS)]


def report(run: Run) -> str:
    """The run as text."""
    count = sum(run.statuses.values())
    lines = ["Summary:", f"  Count:        {count}", f"  Total:        {run.seconds:.2f} s"]
    if run.latencies_ms:
        lines += _latencies(sorted(run.latencies_ms), count / run.seconds)
    lines += ["", "Status code distribution:"]
    lines += [f"  [{status}] {number} responses" for status, number in sorted(run.statuses.items())]
    return "\n".join(lines)


def _latencies(ordered: Sequence[float], per_second: float) -> list[str]:
    average = sum(ordered) / len(ordered)
    most = max(number for _, number in histogram(ordered))
    return [
        f"  Slowest:      {ordered[-1]:.2f} ms",
        f"  Fastest:      {ordered[0]:.2f} ms",
        f"  Average:      {average:.2f} ms",
        f"  Requests/sec: {per_second:.2f}",
        "",
        "Response time histogram:",
        *(
            f"  {bound:10.2f} [{number}] {'∎' * round(BAR * number / most)}"
            for bound, number in histogram(ordered)
        ),
        "",
        "Latency distribution:",
        *(f"  {percent} % in {percentile(ordered, percent):.2f} ms" for percent in PERCENTS),
    ]
