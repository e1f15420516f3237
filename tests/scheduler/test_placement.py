"""The policies, each by its rules."""

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from services.scheduler.candidates import Candidates
from services.scheduler.fleet import Roster
from services.scheduler.placement import (
    PAUSE,
    POLICIES,
    Policy,
    externality_s,
    predicted_ttft_s,
)
from services.scheduler.traffic import Demand
from tests.scheduler.makers import request

PROMPT = 1000
ANSWER = 50.0


def worker(**known: Any) -> dict[str, Any]:
    """An idle worker that caches nothing, with a millisecond a token."""
    usual = {
        "cached": 0,
        "requests": 0,
        "waiting": 0,
        "queued": 0,
        "held": 0,
        "reported": True,
        "s_per_token": 0.001,
        "step_s": 0.0,
        "step_s_per_decode": 0.0,
    }
    return usual | known


def candidates(*workers: dict[str, Any]) -> Candidates:
    def column(name: str) -> Any:
        return np.array([one[name] for one in workers])

    count = len(workers)
    roster = Roster(
        slots=np.arange(count),
        seeds=np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15),
        reported=column("reported"),
        block_size=np.full(count, 4),
        cache_tokens=np.full(count, 10**6),
        memory_tokens=np.full(count, 10**6),
        max_model_tokens=np.full(count, 10**6),
        max_running=np.full(count, 10**6),
        step_budget_tokens=np.full(count, 500),
    )
    return Candidates(
        roster=roster,
        cached_tokens=column("cached"),
        uncached_tokens=PROMPT - column("cached"),
        requests=np.maximum(column("requests"), column("waiting")),
        waiting=column("waiting"),
        queued_tokens=column("queued"),
        held_tokens=column("held"),
        prefill_s_per_token=column("s_per_token"),
        step_s=column("step_s"),
        step_s_per_decode=column("step_s_per_decode"),
        answer_tokens=ANSWER,
        demand=Demand(requests_per_s=0.0, utilisation=0.0),
    )


def choose(policy: str | Policy, *workers: dict[str, Any], **said: Any) -> int:
    chosen = POLICIES[policy](Random(0)) if isinstance(policy, str) else policy
    known = candidates(*workers)
    return chosen.choose(request(**said), known, predicted_ttft_s(known))


@pytest.mark.parametrize(
    ("workers", "row"),
    [
        pytest.param([worker(), worker()], 0, id="a-tie-goes-to-the-first-id"),
        pytest.param([worker(), worker(cached=500)], 1, id="the-longer-prefix-is-quicker"),
        pytest.param(
            [worker(), worker(cached=500, queued=499)], 1, id="prefix-beats-a-shorter-queue"
        ),
        pytest.param(
            [worker(), worker(cached=500, queued=501)], 0, id="a-longer-queue-beats-the-prefix"
        ),
        pytest.param(
            [worker(requests=9), worker(cached=500, queued=600, requests=9)],
            1,
            id="computing-twice-pauses-the-answers-there",
        ),
        pytest.param(
            [worker(), worker(s_per_token=0.0005, queued=900)], 1, id="a-faster-worker-wins"
        ),
        pytest.param(
            [worker(requests=9, step_s_per_decode=0.01), worker(queued=100)],
            1,
            id="running-decodes-cost-time",
        ),
        pytest.param(
            [worker(requests=30, cached=999, step_s_per_decode=0.01), worker()],
            1,
            id="a-crowd-costs-more-than-the-prefix-saves",
        ),
        pytest.param(
            [worker(queued=100), worker(reported=False), worker(queued=300)],
            0,
            id="unknown-is-not-idle",
        ),
        pytest.param([worker(reported=False)] * 2, 0, id="nobody-reported-and-still-placed"),
    ],
)
def test_predicted(workers: list[dict[str, Any]], row: int) -> None:
    assert choose("predicted", *workers) == row


@pytest.mark.parametrize(
    ("workers", "row"),
    [
        pytest.param([worker(requests=2), worker(requests=1)], 1, id="fewest-requests"),
        pytest.param([worker(queued=5), worker(queued=4)], 1, id="then-fewest-queued-tokens"),
        pytest.param([worker(), worker()], 0, id="then-the-first-id"),
        pytest.param([worker(), worker(cached=999, requests=1)], 0, id="whatever-is-cached"),
    ],
)
def test_least_load(workers: list[dict[str, Any]], row: int) -> None:
    assert choose("least_load", *workers) == row


def test_prefix_hash_keeps_prompts_together_that_begin_alike() -> None:
    beginning = tuple(range(64))
    rows = {
        choose("prefix_hash", *[worker()] * 9, block_hashes=(*beginning, end)) for end in range(50)
    }
    assert len(rows) == 1


def test_prefix_hash_spreads_different_prompts() -> None:
    rows = {choose("prefix_hash", *[worker()] * 9, block_hashes=(hash_,)) for hash_ in range(100)}
    assert rows == set(range(9))


def test_prefix_hash_passes_over_the_overloaded() -> None:
    prompt = (7,)
    first = choose("prefix_hash", *[worker()] * 9, block_hashes=prompt)
    loads = [worker(requests=5 if row == first else 1) for row in range(9)]
    assert choose("prefix_hash", *loads, block_hashes=prompt) != first


def test_prefix_hash_moves_only_the_prompts_of_a_worker_that_left() -> None:
    before = [choose("prefix_hash", *[worker()] * 9, block_hashes=(h,)) for h in range(200)]
    after = [choose("prefix_hash", *[worker()] * 8, block_hashes=(h,)) for h in range(200)]
    moved = [old for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {8}


def test_round_robin_takes_each_in_turn_by_id() -> None:
    policy = POLICIES["round_robin"](Random(0))
    assert [choose(policy, *[worker()] * 3) for _ in range(4)] == [0, 1, 2, 0]


def test_random_is_the_same_for_the_same_seed() -> None:
    one, other = POLICIES["random"](Random(5)), POLICIES["random"](Random(5))
    rows = [choose(one, *[worker()] * 4) for _ in range(40)]
    assert rows == [choose(other, *[worker()] * 4) for _ in range(40)]
    assert set(rows) == {0, 1, 2, 3}


def test_every_policy_goes_by_its_own_name() -> None:
    assert [make(Random(0)).name for make in POLICIES.values()] == list(POLICIES)


def test_predicted_ttft_is_work_ahead_and_own_and_steps() -> None:
    known = candidates(worker(queued=700, cached=200, step_s=0.01))
    # 1,500 tokens at a millisecond, in three steps of 500.
    assert predicted_ttft_s(known).tolist() == pytest.approx([1.5 + 0.03])


def test_a_prefill_behind_a_queue_delays_who_comes_before_it_is_empty() -> None:
    known = candidates(worker(queued=2000), worker())
    demand = Demand(requests_per_s=0.5, utilisation=0.75)
    # 0.5 / (1 - 0.75) come in each second of queue; each waits 1 s for this prefill's length,
    # but for those that come while it runs, who wait half of it in the mean.
    expected = pytest.approx([2.0 * 1 * (2 + 0.5), 2.0 * 1 * 0.5])
    assert externality_s(replace(known, demand=demand)).tolist() == expected


def test_a_prefill_pauses_answers_and_its_own_answer_slows_them() -> None:
    known = candidates(worker(requests=3, waiting=1, cached=500, step_s_per_decode=0.001))
    assert externality_s(known).tolist() == pytest.approx([PAUSE * (2 * 0.5 + 3 * ANSWER * 0.001)])


def test_a_cache_that_is_full_makes_it_wait_until_answers_have_ended() -> None:
    crowded = worker(held=10**6 - 50, requests=10, step_s=0.01)
    known = candidates(crowded, worker(step_s=0.01))
    lacking = PROMPT + ANSWER - 50
    wait_s = ANSWER * 0.01 * lacking / (10**6 - 50)
    assert known.memory_s.tolist() == pytest.approx([wait_s, 0.0])
    assert np.diff(predicted_ttft_s(known)).tolist() == pytest.approx([-wait_s])
