"""What is learned of a worker's speed."""

import pytest

from services.scheduler.facts import PrefillTiming, Report
from services.scheduler.rates import PRIOR, Rates

BASE_S, PER_TOKEN_S = 0.02, 1 / 20_000


def rates_of(*slots: int) -> Rates:
    rates = Rates(4)
    for slot in slots:
        rates.join(slot, peers=())
    return rates


def prefill(tokens: int) -> Report:
    seconds = BASE_S + PER_TOKEN_S * tokens
    timing = PrefillTiming(request_id="r", computed_tokens=tokens, prefill_us=round(seconds * 1e6))
    return Report(prefills=(timing,))


def test_before_the_first_report_a_worker_is_like_the_prior() -> None:
    rates = rates_of(0)
    assert not rates.known[0]
    assert rates.prefill_s_per_token[0] == pytest.approx(PRIOR.prefill.slope_s)
    assert rates.step_s[0] == pytest.approx(PRIOR.step.base_s)


def test_the_prefill_rate_is_learned() -> None:
    rates = rates_of(0)
    for tokens in [100, 3000, 700, 1500] * 50:
        rates.learn(0, prefill(tokens))
    assert rates.known[0]
    assert rates.speed(0).prefill.slope_s == pytest.approx(PER_TOKEN_S, rel=0.02)
    assert rates.speed(0).prefill.base_s == pytest.approx(BASE_S, rel=0.05)


def test_a_worker_that_got_slower_is_believed() -> None:
    rates = rates_of(0)
    for tokens in [100, 3000] * 50:
        rates.learn(0, prefill(tokens))
    slow = Report(
        prefills=(PrefillTiming(request_id="r", computed_tokens=1000, prefill_us=1_000_000),)
    )
    for _ in range(200):
        rates.learn(0, slow)
    assert rates.speed(0).prefill.at(1000) == pytest.approx(1.0, rel=0.05)


def test_the_step_time_is_learned_over_the_requests_decoding() -> None:
    rates = rates_of(0)
    for decoding in [1, 8, 32] * 60:
        step_us = round(5000 + 100 * decoding)
        rates.learn(0, Report(steps=10, step_time_us=10 * step_us, generated_tokens=10 * decoding))
    assert rates.step_s[0] == pytest.approx(0.005, rel=0.02)
    assert rates.step_s_per_decode[0] == pytest.approx(0.0001, rel=0.02)


def test_equal_points_give_a_line_through_them() -> None:
    rates = rates_of(0)
    for _ in range(2000):
        rates.learn(0, prefill(512))
    line = rates.speed(0).prefill
    assert line.at(512) == pytest.approx(BASE_S + PER_TOKEN_S * 512, rel=0.01)
    assert line.base_s >= 0
    assert line.slope_s > 0


def test_work_is_never_free() -> None:
    rates = rates_of(0)
    for tokens, us in [(100, 50_000), (2000, 1000)] * 100:
        timing = PrefillTiming(request_id="r", computed_tokens=tokens, prefill_us=us)
        rates.learn(0, Report(prefills=(timing,)))
    assert rates.prefill_s_per_token[0] > 0


def test_a_fully_cached_prefill_teaches_nothing() -> None:
    rates = rates_of(0)
    timing = PrefillTiming(request_id="r", computed_tokens=0, prefill_us=9)
    rates.learn(0, Report(prefills=(timing,)))
    assert not rates.known[0]


def test_a_new_worker_is_like_its_known_peers() -> None:
    rates = rates_of(0, 1)
    for tokens in [100, 3000] * 100:
        rates.learn(0, prefill(tokens))
    rates.join(2, peers=(0, 1))
    assert not rates.known[2]
    assert rates.prefill_s_per_token[2] == pytest.approx(rates.prefill_s_per_token[0], rel=0.05)


def test_who_has_not_reported_is_like_who_has() -> None:
    rates = rates_of(0, 1)
    slow = PrefillTiming(request_id="r", computed_tokens=37, prefill_us=900_000)
    rates.learn(0, Report(prefills=(slow,)))
    rates.follow(1, 0)
    assert rates.prefill_s_per_token[1] == pytest.approx(rates.prefill_s_per_token[0], rel=0.3)
    assert (rates.known[1], rates.unknown) == (False, {1})


def test_who_has_reported_follows_nobody() -> None:
    rates = rates_of(0, 1)
    for slot, tokens in ((0, 100), (1, 3000)):
        rates.learn(slot, prefill(tokens))
    before = rates.prefill_s_per_token[1]
    rates.follow(1, 0)
    assert rates.prefill_s_per_token[1] == before
