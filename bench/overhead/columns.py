"""The figures that tables show, and how a number is written. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Column:
    """A figure, and its heading."""

    heading: str
    figure: str


FAILED = Column("failed", "failed")
PER_TOKEN = Column("CPU, µs a token", "cpu_us_a_token")
PER_REQUEST = Column("CPU, ms a request", "cpu_ms_a_request")
TTFT = (Column("TTFT p50, ms", "ttft_p50_ms"), Column("p99", "ttft_p99_ms"))
GAPS = (Column("gap p50, ms", "gap_p50_ms"), Column("p99", "gap_p99_ms"))
LOAD = Column("cores of the load", "load_cores")
_SERVICES = ("edge", "scheduler", "tokenizer")

STREAMED = (
    PER_TOKEN,
    *(Column(name, f"{name}_us_a_token") for name in _SERVICES),
    Column("tokens/s", "tokens_per_s"),
    *TTFT,
    *GAPS,
    Column("memory, MB", "rss_mb"),
    LOAD,
    FAILED,
)
WHOLE = (
    PER_REQUEST,
    *(Column(name, f"{name}_ms_a_request") for name in _SERVICES),
    Column("requests/s", "requests_per_s"),
    Column("e2e p50, ms", "e2e_p50_ms"),
    Column("p99", "e2e_p99_ms"),
    Column("memory, MB", "rss_mb"),
    LOAD,
    FAILED,
)
AT_LOW_RATE = (*TTFT, *GAPS, PER_REQUEST, FAILED)
EDGES = (
    Column("requests/s", "requests_per_s"),
    Column("cores of all edges", "edge_cores"),
    Column("edge, ms a request", "edge_ms_a_request"),
    *(Column(name, f"{name}_ms_a_request") for name in _SERVICES[1:]),
    LOAD,
    FAILED,
)
AT_REST = (
    Column("CPU, ms a second", "cpu_ms_a_s"),
    *(Column(name, f"{name}_ms_a_s") for name in _SERVICES),
)
IDLE = (
    Column("streams", "open"),
    Column("kB a stream", "kb_a_stream"),
    Column("before, MB", "rss_before_mb"),
    Column("open, MB", "rss_open_mb"),
    Column("after, MB", "rss_after_mb"),
)
TURNS = (
    Column("tokens", "tokens"),
    Column("tokenizer CPU, ms a prompt", "tokenizer_ms_a_prompt"),
)
REAL = (
    Column("output tokens/s", "tokens_per_s"),
    *TTFT,
    *GAPS,
    PER_TOKEN,
    FAILED,
)


def cell(values: Sequence[float]) -> str:
    """The median, and the range where there is one; empty for nothing."""
    if not values:
        return ""
    shown = number(median(values))
    if len(values) == 1 or min(values) == max(values):
        return shown
    return f"{shown} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Three digits or a little more."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
