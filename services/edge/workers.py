"""What an edge knows of workers and of the pools that they make up. Pure."""

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
