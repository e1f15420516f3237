"""Who this worker is, in this epoch."""

import secrets
from dataclasses import dataclass, field

from services.worker.engine import EngineFacts


def new_epoch() -> int:
    """A random 64-bit number, never 0."""
    return secrets.randbits(64) or 1


@dataclass(slots=True, kw_only=True)
class Identity:
    """What the worker tells others of itself. The epoch changes when its cache is emptied."""

    worker_id: str
    address: str
    kind: str
    models: tuple[str, ...]
    adapters: tuple[str, ...] = ()
    facts: EngineFacts | None = None  # until the engine is up
    epoch: int = field(default_factory=new_epoch)
