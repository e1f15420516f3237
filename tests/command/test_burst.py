"""Equal prompts at one instant are spread, and computed no more often than that takes."""

import pytest

from bench.burst import BOUND, Burst, fewest_workers, virtual


def test_a_burst_is_spread_and_computed_once_on_each_worker_that_it_needs() -> None:
    burst = virtual("predicted", 256, 8, seed=0)
    assert sum(burst.requests) == 256
    assert burst.imbalance < BOUND
    used = sum(1 for requests in burst.requests if requests)
    assert burst.computations == used
    assert burst.computations < 2 * fewest_workers(8)


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 9, 100])
def test_the_ideal_is_the_least_that_the_bound_allows(workers: int) -> None:
    fewest = fewest_workers(workers)
    assert workers / fewest < BOUND
    assert fewest == 1 or workers / (fewest - 1) >= BOUND


def test_what_no_cache_can_give_counts_on_no_side() -> None:
    burst = Burst(requests=(2, 1, 1), prompt_tokens=110, shared_tokens=100, prefilled_tokens=340)
    assert burst.computations == 3
    assert burst.imbalance == 1.5
