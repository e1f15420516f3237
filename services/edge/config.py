"""Settings of the edge, read once from `EDGE_…` variables."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """See README.md for what each setting means."""

    tokenizers: tuple[str, ...]
    scheduler: str
    pools: tuple[str, ...] = ()
    listen: str = "0.0.0.0:8000"
    reuse_port: bool = False
    metrics_listen: str = ""
    tenants: str = ""
    body_limit_bytes: int = 16 * 2**20
    body_timeout_s: float = 30.0
    cors_origins: tuple[str, ...] = ()  # of pages whose scripts may call; `*` is any
    matryoshka: tuple[str, ...] = ()  # `model=64|128`: dimensions it was trained for
    unread_limit: int = 8192  # deltas that a slow client may leave unread
    resume_limit: int = 3
    responses_store_bytes: int = 64 * 2**20  # of responses that can be continued; 0 keeps none
    pipe_idle_s: float = 60.0  # a worker's stream without a request is closed after this
    drain_s: float = 30.0

    @property
    def shortened(self) -> Mapping[str, frozenset[int]]:
        """The dimensions to which vectors may be cut, by model. Raises ValueError."""
        return dict(_dimensions(entry) for entry in self.matryoshka)

    def __post_init__(self) -> None:
        _ = self.shortened
        if not self.tokenizers:
            raise ValueError("EDGE_TOKENIZERS must name at least one host:port")
        for name in ("body_limit_bytes", "body_timeout_s", "unread_limit", "pipe_idle_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"EDGE_{name.upper()} must be positive, got {getattr(self, name)}")
        for name in ("resume_limit", "drain_s", "responses_store_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"EDGE_{name.upper()} must not be negative")


def _dimensions(entry: str) -> tuple[str, frozenset[int]]:
    name, _, sizes = entry.rpartition("=")
    if not name or not all(size.isdecimal() and int(size) for size in sizes.split("|")):
        raise ValueError(f"EDGE_MATRYOSHKA must be like MODEL=64|128, got {entry!r}")
    return name, frozenset(map(int, sizes.split("|")))
