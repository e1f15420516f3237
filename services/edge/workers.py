"""What an edge knows of workers and of the pools that they make up. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Worker:
    """One live worker, as much as an edge needs."""

    id: str
    address: str
    generates: bool
    models: tuple[str, ...]  # the first is the main name
    max_model_tokens: int
    draining: bool
    adapters: tuple[str, ...] = ()  # those that it can load


@dataclass(frozen=True, slots=True)
class Pool:
    """What is known of a model's workers. `ready` while one of them takes requests."""

    max_model_tokens: int
    ready: bool
    generates: bool
    parent: str = ""  # of an adapter: the model that it adapts


@dataclass(frozen=True, slots=True)
class Served:
    """What a name stands for that clients ask for."""

    model: str
    adapter: str = ""


def served(name: str, pools: Mapping[str, Pool]) -> Served:
    """The model, or the adapter and its model. An unknown name is taken for a model's."""
    pool = pools.get(name)
    return Served(pool.parent, name) if pool is not None and pool.parent else Served(name)


def pools_of(workers: Sequence[Worker], known: Mapping[str, Pool]) -> dict[str, Pool]:
    """The pools by every name, of models and of adapters; those without a worker stay known."""
    pools = {name: replace(pool, ready=False) for name, pool in known.items()}
    # Those that drain come first, so that one that is ready has the last word.
    by_readiness = sorted(workers, key=lambda worker: not worker.draining)
    # A model's name goes before an adapter's.
    for worker in by_readiness:
        pool = _pool(worker)
        pools |= dict.fromkeys(worker.adapters, replace(pool, parent=worker.models[0]))
    for worker in by_readiness:
        pools |= dict.fromkeys(worker.models, _pool(worker))
    return pools


def _pool(worker: Worker) -> Pool:
    return Pool(worker.max_model_tokens, ready=not worker.draining, generates=worker.generates)


def merged(known: Sequence[Worker], heard: Sequence[Worker]) -> tuple[Worker, ...]:
    """Both, ordered by id; what was heard is newer."""
    by_id = {worker.id: worker for worker in (*known, *heard)}
    return tuple(by_id[worker_id] for worker_id in sorted(by_id))
