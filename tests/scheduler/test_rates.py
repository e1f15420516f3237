"""What is learned of a worker's speed."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.facts import PrefillTiming, Report
from services.scheduler.rates import PREFILLS, PRIOR, Rates, Speed

TRUTH = Speed(step_s=0.005, prefill_s_per_token=1 / 20_000, step_s_per_decode=0.0001)


def rates_of(*slots: int) -> Rates:
    rates = Rates(4)
    for slot in slots:
        rates.join(slot, peers=())
    return rates


def prefill(tokens: int, us: int = 0) -> PrefillTiming:
    return PrefillTiming(request_id="r", computed_tokens=tokens, prefill_us=us)


def report(
    steps: int, prefills: Sequence[int], generated: int, queued: int = 0, truth: Speed = TRUTH
) -> Report:
    """What a worker of this speed says after these steps."""
    did = (steps, sum(prefills), generated)
    seconds = sum(many * cost for many, cost in zip(did, truth, strict=True))
    return Report(
        steps=steps,
        step_time_us=round(seconds * 1e6),
        generated_tokens=generated,
        queued_prefill_tokens=queued,
        prefills=tuple(prefill(tokens) for tokens in prefills),
    )


def at_random(count: int, truth: Speed = TRUTH) -> list[Report]:
    rng = Random(0)
    return [
        report(
            rng.randrange(1, 9),
            [rng.randrange(10, 4000) for _ in range(rng.randrange(3))],
            rng.randrange(300),
            truth=truth,
        )
        for _ in range(count)
    ]


def test_before_the_first_report_a_worker_is_like_the_prior() -> None:
    rates = rates_of(0)
    assert not rates.known[0]
    assert rates.speed(0) == PRIOR


def test_all_three_costs_are_learned() -> None:
    rates = rates_of(0)
    for said in at_random(300):
        rates.learn(0, said)
    assert rates.known[0]
    assert rates.speed(0) == pytest.approx(TRUTH, rel=0.02)


def test_a_worker_that_got_slower_is_believed() -> None:
    slow = Speed(*(4 * cost for cost in TRUTH))
    rates = rates_of(0)
    for said in at_random(100) + at_random(900, slow):
        rates.learn(0, said)
    assert rates.speed(0) == pytest.approx(slow, rel=0.05)


def test_prefills_that_share_their_steps_are_not_each_charged_for_all() -> None:
    rates = rates_of(0)
    for _ in range(200):
        rates.learn(0, report(1, [100] * 8, 8))
        rates.learn(0, report(10, [], 80))
    assert rates.prefill_s_per_token[0] == pytest.approx(TRUTH.prefill_s_per_token, rel=0.05)


def test_the_chunks_of_a_prefill_count_where_it_ends() -> None:
    rates = rates_of(0)
    chunks = replace(report(3, [1500], 0, queued=2000), prefills=())
    end = replace(report(1, [500], 1), prefills=(prefill(2000),))
    for _ in range(200):
        for said in (chunks, end, report(5, [], 5), report(5, [], 100)):
            rates.learn(0, said)
    assert rates.speed(0) == pytest.approx(TRUTH, rel=0.02)


def test_a_queue_that_is_never_empty_is_learned_from_too() -> None:
    rates = rates_of(0)
    for said in at_random(PREFILLS * 300):
        full = replace(said, queued_prefill_tokens=9000)
        rates.learn(0, full)
    assert rates.speed(0) == pytest.approx(TRUTH, rel=0.1)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.integers(0, 10**7),
            st.integers(0, 500),
            st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 10**6)), max_size=3),
        ),
        max_size=30,
    )
)
def test_work_is_never_free_and_never_negative(
    said: list[tuple[int, int, int, list[tuple[int, int]]]],
) -> None:
    rates = rates_of(0)
    for steps, step_us, generated, prefills in said:
        timings = tuple(prefill(tokens, us) for tokens, us in prefills)
        rates.learn(
            0,
            Report(steps=steps, step_time_us=step_us, generated_tokens=generated, prefills=timings),
        )
    speed = rates.speed(0)
    assert speed.step_s >= 0
    assert speed.prefill_s_per_token > 0
    assert speed.step_s_per_decode > 0
    assert max(speed) < float("inf")


def test_a_worker_that_does_not_time_its_steps_is_known_by_its_prefills() -> None:
    rates = rates_of(0)
    for tokens in [100, 3000, 700, 1500] * 100:
        us = round((TRUTH.step_s + tokens * TRUTH.prefill_s_per_token) * 1e6)
        rates.learn(0, Report(prefills=(prefill(tokens, us),)))
    assert rates.known[0]
    assert rates.prefill_s_per_token[0] == pytest.approx(TRUTH.prefill_s_per_token, rel=0.05)


def test_a_fully_cached_prefill_tells_nothing_of_prefilling() -> None:
    rates = rates_of(0)
    rates.learn(0, Report(prefills=(prefill(0, 9),)))
    assert not rates.known[0]


def test_a_new_worker_is_like_its_known_peers() -> None:
    rates = rates_of(0, 1)
    for said in at_random(100):
        rates.learn(0, said)
    rates.join(2, peers=(0, 1))
    assert not rates.known[2]
    assert rates.speed(2) == pytest.approx(rates.speed(0))


def test_who_has_not_reported_is_like_who_has() -> None:
    rates = rates_of(0, 1)
    rates.learn(0, Report(prefills=(prefill(37, 900_000),)))
    rates.follow(1, 0)
    assert rates.speed(1) == rates.speed(0)
    assert (rates.known[1], rates.unknown) == (False, {1})


def test_who_has_reported_follows_nobody() -> None:
    rates = rates_of(0, 1)
    for slot in (0, 1):
        rates.learn(slot, report(1, [100 + 900 * slot], 1))
    before = rates.speed(1)
    rates.follow(1, 0)
    assert rates.speed(1) == before


def test_what_is_half_told_is_not_lost_when_a_peer_is_followed() -> None:
    rates = rates_of(0, 1)
    rates.learn(0, replace(report(4, [2000], 0, queued=2000), prefills=()))
    rates.learn(1, report(1, [700], 1))
    rates.follow(0, 1)
    rates.learn(0, replace(report(1, [0], 1), prefills=(prefill(2000),)))
    assert rates.prefill_s_per_token[0] > TRUTH.prefill_s_per_token / 2


def test_a_prompts_cost_is_not_forgotten_while_answers_go_on() -> None:
    rates = rates_of(0)
    for said in at_random(50):
        rates.learn(0, said)
    before = rates.prefill_s_per_token[0]
    for _ in range(5000):
        rates.learn(0, report(9, [], 9))
    assert rates.prefill_s_per_token[0] == pytest.approx(before, rel=0.05)
