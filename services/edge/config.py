"""Settings of the edge, read once from `EDGE_…` variables."""

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
    unread_limit: int = 8192  # deltas that a slow client may leave unread
    resume_limit: int = 3
    pipe_idle_s: float = 60.0  # a worker's stream without a request is closed after this
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.tokenizers:
            raise ValueError("EDGE_TOKENIZERS must name at least one host:port")
        for name in ("body_limit_bytes", "body_timeout_s", "unread_limit", "pipe_idle_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"EDGE_{name.upper()} must be positive, got {getattr(self, name)}")
        for name in ("resume_limit", "drain_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"EDGE_{name.upper()} must not be negative")
