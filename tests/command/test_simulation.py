import json
from itertools import count
from random import Random

import pytest

from bench.peers import PEERS, DynamoCost, WeightedScorers, hears_ends
from command.options import WORKLOADS
from command.simulation.capacity import capacity_per_s
from command.simulation.news import batches
from command.simulation.results import Served, Summary, jain, percentile, summary
from command.simulation.virtual import Fleet, TraceTokens
from command.simulation.workload import (
    BLOCK_TOKENS,
    KINDS,
    BadTrace,
    Job,
    arrivals_per_s,
    faster,
    made_up,
    read_trace,
)
from services.scheduler.placement import POLICIES, Policy
from services.worker.sim_core import Removed, SimRun, SimSettings, Stored

ALL = {**POLICIES, **PEERS}
SETTINGS = SimSettings(capacity_blocks=300, block_size=BLOCK_TOKENS, budget=8192, max_running=32)


def jobs(kind: str = "shared", most: int = 300, seed: int = 1) -> list[Job]:
    return faster(made_up(kind, most, Random(seed)), 8.0)


def served(name: str, asked: list[Job], workers: int = 4, seed: int = 0) -> list[Served]:
    policy: Policy = ALL[name](Random(seed))
    return Fleet(policy, workers, SETTINGS, asked, hears_ends(policy)).run()


def figures(name: str, asked: list[Job], workers: int = 4, seed: int = 0) -> Summary:
    return summary(name, served(name, asked, workers, seed), workers)


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_is_served_in_full_and_once(kind: str) -> None:
    asked = jobs(kind)
    ends = served("predicted", asked)
    assert {id(end.job) for end in ends} == {id(job) for job in asked}
    assert len(ends) == len(asked)
    assert all(end.made_tokens == end.job.output_tokens for end in ends)


@pytest.mark.parametrize("name", ALL)
def test_under_every_policy_tokens_and_times_make_sense(name: str) -> None:
    for end in served(name, jobs()):
        assert 0 <= end.cached_tokens < end.job.prompt_tokens
        assert end.job.arrival_s < end.first_s <= end.last_s
        assert end.prefilled_tokens + end.cached_tokens == end.job.prompt_tokens


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_figures(name: str) -> None:
    assert figures(name, jobs(), seed=3) == figures(name, jobs(), seed=3)


def test_predicted_finds_more_cached_than_round_robin() -> None:
    predicted, round_robin = figures("predicted", jobs()), figures("round_robin", jobs())
    assert predicted.hit_rate > round_robin.hit_rate
    assert predicted.ttft_mean_s < round_robin.ttft_mean_s


def test_without_anything_in_common_nothing_is_cached() -> None:
    assert figures("predicted", jobs("unique")).hit_rate == 0


def test_a_lone_request_takes_what_its_steps_cost() -> None:
    job = Job(arrival_s=1.0, prompt_tokens=1000, output_tokens=3, blocks=(1,))
    (end,) = served("predicted", [job], workers=1)
    prefill_s = (8.0 + 0.060 * 1000) / 1e3
    assert end.ttft_s == pytest.approx(prefill_s + 0.0001, abs=2e-4)
    assert end.e2e_s == pytest.approx(prefill_s + 2 * 0.0081, abs=1e-3)


def test_a_thousand_workers_take_a_day_of_virtual_time_at_once() -> None:
    asked = [Job(second * 800.0, 600, 2, (second,)) for second in range(108)]
    assert figures("predicted", asked, workers=1000).requests == 108


def test_more_than_fit_wait_for_room_and_are_served() -> None:
    asked = [Job(0.0, 600, 20, (number,)) for number in range(200)]
    assert len(served("predicted", asked, workers=2)) == 200


def test_peers_books_are_empty_in_the_end() -> None:
    for name in ("dynamo kv cost", "llm-d weighted"):
        policy = PEERS[name](Random(0))
        Fleet(policy, 4, SETTINGS, jobs(), hears_ends(policy)).run()
        assert isinstance(policy, DynamoCost | WeightedScorers)
        assert policy.held.is_empty


def test_the_capacity_is_a_rate_that_round_robin_keeps_up_with() -> None:
    asked = jobs("unique", 400)
    capacity = capacity_per_s(asked, 4, SETTINGS)
    calm = faster(asked, 0.5 * capacity / arrivals_per_s(asked))
    flood = faster(asked, 4 * capacity / arrivals_per_s(asked))
    assert figures("round_robin", flood).requests_per_s < 1.2 * capacity
    assert figures("round_robin", calm).ttft_mean_s < figures("round_robin", flood).ttft_mean_s / 4


def test_a_burst_of_equal_prompts_is_spread() -> None:
    figures_ = figures("predicted", jobs("burst", 256))
    assert figures_.imbalance < 1.5


# Workloads


def line(**changes: object) -> str:
    fields = {"timestamp": 1500, "input_length": 1300, "output_length": 7, "hash_ids": [4, 5, 6]}
    return json.dumps(fields | changes)


def test_a_trace_line_is_a_job_with_its_full_blocks() -> None:
    (job,) = read_trace([line()])
    assert (job.arrival_s, job.prompt_tokens, job.output_tokens) == (1.5, 1300, 7)
    assert len(job.blocks) == 2


def test_equal_ids_are_equal_blocks() -> None:
    first, second = read_trace([line(), line(hash_ids=[4, 9, 6])])
    assert first.blocks[0] == second.blocks[0]
    assert first.blocks[1] != second.blocks[1]


def test_only_the_first_lines_are_read() -> None:
    assert len(read_trace([line(), line(), "never read"], most=2)) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("{", "line 1 is not of a Mooncake trace", id="no JSON"),
        pytest.param("[]", "line 1 is not of a Mooncake trace", id="no object"),
        pytest.param('{"timestamp": 1}', "no 'input_length'", id="a field is missing"),
        pytest.param(line(hash_ids=[1]), "do not fit together", id="too few blocks"),
        pytest.param(line(hash_ids=[-1, 2, 3]), "line 1 is not", id="an id below zero"),
        pytest.param(line(timestamp=-1), "do not fit together", id="before the beginning"),
        pytest.param(line(output_length=float("inf")), "line 1 is not", id="no end"),
        pytest.param(line(hash_ids=4), "line 1 is not", id="no list"),
        pytest.param("", "no requests", id="nothing"),
    ],
)
def test_what_is_no_trace_is_told_in_one_line(text: str, says: str) -> None:
    with pytest.raises(BadTrace, match=says) as caught:
        read_trace([text])
    assert "\n" not in str(caught.value)


def test_the_command_knows_all_workloads() -> None:
    assert tuple(KINDS) == WORKLOADS


@pytest.mark.parametrize("kind", KINDS)
def test_a_made_up_workload_has_as_many_jobs_as_asked_in_order(kind: str) -> None:
    made = made_up(kind, 100, Random(5))
    assert len(made) == 100
    assert made == sorted(made, key=lambda job: job.arrival_s)
    assert made == made_up(kind, 100, Random(5))
    assert all(len(job.blocks) == job.prompt_tokens // BLOCK_TOKENS for job in made)


def test_faster_arrivals_are_the_same_jobs() -> None:
    asked = made_up("shared", 50, Random(5))
    assert arrivals_per_s(faster(asked, 3.0)) == pytest.approx(3 * arrivals_per_s(asked))


# Figures


def test_percentiles_are_by_nearest_rank() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], percent) for percent in (1, 50, 75, 99)] == [
        1,
        2,
        3,
        4,
    ]


def test_jains_index() -> None:
    assert jain([2.0, 2.0]) == 1
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25


def test_fairness_needs_tenants() -> None:
    assert figures("predicted", jobs("unique")).fairness is None
    fairness = figures("predicted", jobs("shared")).fairness
    assert fairness is not None
    assert 0.25 <= fairness <= 1


# What the scheduler is told


def test_changes_keep_their_order_and_remove_last() -> None:
    run = SimRun("1", TraceTokens(Job(0.0, 2000, 1, (11, 12, 13)), count()), 1)
    changes: list[Stored | Removed] = [
        Stored(run, 0, 2),
        Removed([7]),
        Removed([8]),
        Stored(run, 2, 3),
    ]
    assert batches(changes) == [((11, 12), (7, 8)), ((13,), ())]
