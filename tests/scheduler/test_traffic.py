"""How much has lately come."""

import numpy as np
import pytest

from services.scheduler.traffic import BUSIEST, QUIET_S, WINDOW_S, Traffic

SLOTS = np.array([0, 1])
PER_TOKEN_S = np.array([0.001, 0.001])


def steady(per_s: float, tokens: int, seconds: int) -> Traffic:
    traffic = Traffic(2)
    for second in range(seconds):
        for _ in range(int(per_s)):
            traffic.placed(second % 2, tokens, float(second))
    return traffic


def test_a_steady_stream_is_measured_for_each_worker() -> None:
    demand = steady(per_s=4, tokens=200, seconds=600).demand(SLOTS, PER_TOKEN_S, 600.0)
    assert demand.requests_per_s == pytest.approx(2.0, rel=0.02)
    assert demand.utilisation == pytest.approx(0.4, rel=0.02)
    assert demand.delayed_per_s == pytest.approx(2.0 / 0.6, rel=0.03)


def test_a_first_burst_is_not_a_flood() -> None:
    traffic = Traffic(2)
    for _ in range(20):
        traffic.placed(0, 100, 0.0)
    assert traffic.demand(SLOTS, PER_TOKEN_S, 0.0).requests_per_s == 20 / QUIET_S / 2


def test_what_is_long_past_counts_no_more() -> None:
    assert (
        steady(4, 200, 100).demand(SLOTS, PER_TOKEN_S, 100 + 10 * WINDOW_S).requests_per_s < 0.001
    )


def test_more_work_than_there_is_time_is_told_as_busy() -> None:
    assert steady(8, 5000, 300).demand(SLOTS, PER_TOKEN_S, 300.0).utilisation == BUSIEST


def test_who_leaves_takes_its_traffic_along() -> None:
    traffic = steady(4, 200, 100)
    traffic.leave(0)
    traffic.leave(1)
    assert traffic.demand(SLOTS, PER_TOKEN_S, 100.0).requests_per_s == 0


def test_what_was_placed_counts_at_the_speed_that_is_known_now() -> None:
    traffic = steady(4, 200, 600)
    slow, fast = (traffic.demand(SLOTS, PER_TOKEN_S * part, 600.0) for part in (1.0, 0.2))
    assert fast.utilisation == pytest.approx(slow.utilisation / 5)
