"""What an edge knows of workers and of the pools that they make up. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Worker:
    """One live worker, as much as an edge needs."""

    id: str
    address: str
    generates: bool
    models: tuple[str, ...]  # the first is the main name
    max_model_tokens: int
    draining: bool


@dataclass(frozen=True, slots=True)
class Pool:
    """What is known of a model's workers. `ready` while one of them takes requests."""

    max_model_tokens: int
    ready: bool
    generates: bool


def merged(known: Sequence[Worker], heard: Sequence[Worker]) -> tuple[Worker, ...]:
    """Both, ordered by id; what was heard is newer."""
    by_id = {worker.id: worker for worker in (*known, *heard)}
    return tuple(by_id[worker_id] for worker_id in sorted(by_id))
