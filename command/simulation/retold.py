"""A recorded pool's traffic as a simulation needs it, beside what it really came to. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from command.simulation.recordings import PLACED, Asked, BadRecording, Recording, Worker
from command.simulation.results import Served
from command.simulation.step_costs import StepCosts, step_costs
from command.simulation.workload import Job
from services.worker.sim_core import SimSettings

Pool = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Story:
    """The requests of one pool, by arrival, and how each really ended."""

    model: str
    jobs: Sequence[Job]
    served: Sequence[Served]
    workers: Sequence[Worker]
    most_live: int
    settings: SimSettings
    """What the workers said of themselves; the step costs are not known from that."""
    costs: StepCosts | None
    turned_away: int
    unfinished: int


def pools(recording: Recording) -> Counter[Pool]:
    """Requests by the main model and kind of who can serve them."""
    mains = _mains(recording)
    named = ((asked.model, asked.kind) for asked in recording.requests)
    return Counter(mains[pool] for pool in named if pool in mains)


def tell(recording: Recording, model: str = "") -> Story:
    """The story of a model, by any of its names, or of the busiest. Raises BadRecording."""
    busy, mains = pools(recording), _mains(recording)
    wanted = [pool for pool in busy if not model or mains.get((model, pool[1])) == pool]
    if not wanted:
        known = ", ".join(sorted({name for name, _ in busy})) or "none"
        raise BadRecording(f"no request for {model or 'any worker'}; models with requests: {known}")
    pool = max(wanted, key=lambda each: busy[each])
    workers = [each for each in recording.workers.values() if (each.models[0], each.kind) == pool]
    asked = [each for each in recording.requests if mains.get((each.model, each.kind)) == pool]
    return _story(pool, asked, workers, recording)


def _story(
    pool: Pool, asked: Sequence[Asked], workers: Sequence[Worker], recording: Recording
) -> Story:
    placed = [each for each in asked if each.outcome == PLACED]
    numbers = {worker.id: number for number, worker in enumerate(workers)}
    whole = [each for each in placed if each.ended_s is not None and each.ttft_s is not None]
    whole = [each for each in whole if each.worker in numbers]
    if not whole:
        raise BadRecording(f"no request for {pool[0]} has both its beginning and its first token")
    begun_s = min(each.arrival_s for each in whole)
    settings = _settings(workers[0])
    served = sorted(
        (_served(each, begun_s, numbers, workers[0]) for each in whole),
        key=lambda each: each.job.arrival_s,
    )
    return Story(
        pool[0],
        [each.job for each in served],
        served,
        workers,
        recording.most_live[pool],
        settings,
        step_costs([each for worker in workers for each in recording.work.get(worker.id, ())]),
        len(asked) - len(placed),
        len(placed) - len(whole),
    )


def _served(asked: Asked, begun_s: float, numbers: dict[str, int], worker: Worker) -> Served:
    assert asked.ended_s is not None, "it is whole"
    assert asked.ttft_s is not None, "it is whole"
    # The worker's own bound: without it, a generous one would not fit the simulated memory.
    longest = max(1, worker.max_model_tokens - asked.prompt_tokens)
    hits = worker.capacity_blocks and asked.block_size == worker.block_size
    arrival_s = asked.arrival_s - begun_s
    job = Job(
        arrival_s,
        asked.prompt_tokens,
        max(1, asked.generated_tokens),
        asked.blocks if hits else (),
        asked.tenant,
        asked.priority,
        min(max(1, asked.max_tokens), longest),
    )
    first_s = arrival_s + asked.waited_s + asked.ttft_s
    last_s = max(first_s, asked.ended_s - begun_s)
    cached_tokens = min(asked.cached_tokens, asked.prompt_tokens - 1)
    return Served(
        job, numbers[asked.worker], cached_tokens, asked.generated_tokens, first_s, last_s
    )


def _settings(worker: Worker) -> SimSettings:
    # A worker without a prefix cache still has memory for its requests.
    blocks = worker.capacity_blocks or -(-worker.max_model_tokens // worker.block_size)
    return SimSettings(
        budget=worker.step_budget_tokens,
        max_running=worker.max_running,
        capacity_blocks=blocks,
        block_size=worker.block_size,
    )


def with_costs(settings: SimSettings, costs: StepCosts) -> SimSettings:
    """The same worker, whose steps cost this."""
    return replace(
        settings,
        base_ms=round(costs.base_s * 1e3, 3),
        prefill_us=round(costs.prefill_s_per_token * 1e6, 2),
        decode_us=round(costs.s_per_decode * 1e6, 2),
    )


def _mains(recording: Recording) -> dict[Pool, Pool]:
    """The pool that a name and kind mean."""
    return {
        (name, worker.kind): (worker.models[0], worker.kind)
        for worker in recording.workers.values()
        for name in worker.models
    }
