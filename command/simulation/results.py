"""What a simulated run came to. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from command.simulation.workload import Job


@dataclass(frozen=True, slots=True)
class Served:
    """One job's end."""

    job: Job
    worker: int
    cached_tokens: int
    made_tokens: int
    first_s: float
    last_s: float

    @property
    def ttft_s(self) -> float:
        """From its arrival to its first token."""
        return self.first_s - self.job.arrival_s

    @property
    def e2e_s(self) -> float:
        """From its arrival to its last token."""
        return self.last_s - self.job.arrival_s

    @property
    def prefilled_tokens(self) -> int:
        """Prompt tokens that were computed."""
        return self.job.prompt_tokens - self.cached_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one policy."""

    policy: str
    requests: int
    hit_rate: float
    """Cached tokens of all prompt tokens."""
    ttft_mean_s: float
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    e2e_p50_s: float
    e2e_p99_s: float
    requests_per_s: float
    """From the first arrival to the last token."""
    imbalance: float
    """Prefilled tokens of the busiest worker over the mean."""
    fairness: float | None
    """Jain's index over the tenants' mean times to first token; None without tenants."""


def summary(policy: str, served: Sequence[Served], workers: int) -> Summary:
    """Sum a run up; at least one job was served."""
    ttfts = sorted(each.ttft_s for each in served)
    e2es = sorted(each.e2e_s for each in served)
    prompts = sum(each.job.prompt_tokens for each in served)
    begun_s = min(each.job.arrival_s for each in served)
    return Summary(
        policy=policy,
        requests=len(served),
        hit_rate=sum(each.cached_tokens for each in served) / prompts,
        ttft_mean_s=sum(ttfts) / len(ttfts),
        ttft_p50_s=percentile(ttfts, 50),
        ttft_p90_s=percentile(ttfts, 90),
        ttft_p99_s=percentile(ttfts, 99),
        e2e_p50_s=percentile(e2es, 50),
        e2e_p99_s=percentile(e2es, 99),
        requests_per_s=len(served) / (max(each.last_s for each in served) - begun_s),
        imbalance=_imbalance(served, workers),
        fairness=_fairness(served),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of an ordered, non-empty sequence."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(rank, 1) - 1]


def jain(values: Iterable[float]) -> float:
    """1 when all are equal, 1/n when one has all."""
    shares = list(values)
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


HEADINGS = (
    "policy",
    "hit rate",
    "TTFT mean",
    "p50",
    "p90",
    "p99",
    "E2E p50",
    "p99",
    "req/s",
    "max/mean",
    "Jain",
)


def cells(row: Summary) -> list[str]:
    """The figures as text, in the order of `HEADINGS`; times in seconds."""
    times = (
        row.ttft_mean_s,
        row.ttft_p50_s,
        row.ttft_p90_s,
        row.ttft_p99_s,
        row.e2e_p50_s,
        row.e2e_p99_s,
    )
    return [
        row.policy,
        f"{row.hit_rate:.1%}",
        *(f"{seconds:.3f}" for seconds in times),
        f"{row.requests_per_s:.2f}",
        f"{row.imbalance:.2f}",
        "" if row.fairness is None else f"{row.fairness:.3f}",
    ]


def _imbalance(served: Sequence[Served], workers: int) -> float:
    loads = [0] * workers
    for each in served:
        loads[each.worker] += each.prefilled_tokens
    return max(loads) * workers / sum(loads)


def _fairness(served: Sequence[Served]) -> float | None:
    ttfts: dict[str, list[float]] = defaultdict(list)
    for each in served:
        ttfts[each.job.tenant].append(each.ttft_s)
    if len(ttfts) < 2:
        return None
    return jain(sum(times) / len(times) for times in ttfts.values())
