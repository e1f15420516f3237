"""What the answers of a load sum up to. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.summary import percentile

Figures = Mapping[str, float]
"""Figures by name; the name closes with the unit. What was not measured is absent."""


@dataclass(slots=True)
class Answer:
    """One answer. Times are from when the request was written to an open connection."""

    status: int = 0
    failure: str = ""
    """Why it does not count; empty for an answer that is whole."""
    tokens: int = 0
    deltas: int = 0
    """Events with text; engines and gateways may put several tokens into one."""
    ttft_s: float = 0.0
    e2e_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    """Between events with text."""


def sum_up(answers: Sequence[Answer], seconds: float, cpu_s: float) -> dict[str, float]:
    """The figures of a load that took so long, and so much CPU of its own."""
    whole = [answer for answer in answers if not answer.failure]
    tokens = sum(answer.tokens for answer in whole)
    figures = {
        "requests": float(len(whole)),
        "failed": float(len(answers) - len(whole)),
        "tokens": float(tokens),
        "deltas": float(sum(answer.deltas for answer in whole)),
        "seconds": seconds,
        "requests_per_s": len(whole) / seconds,
        "tokens_per_s": tokens / seconds,
        "load_cores": cpu_s / seconds,
    }
    figures |= _times("ttft", [answer.ttft_s for answer in whole])
    figures |= _times("e2e", [answer.e2e_s for answer in whole])
    return figures | _times("gap", [gap for answer in whole for gap in answer.gaps_s])


def _times(name: str, seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {f"{name}_p{percent}_ms": percentile(ordered, percent) * 1e3 for percent in (50, 90, 99)}
