from command.restarts import LIMIT, WINDOW_S, Restarts


def test_each_death_waits_twice_as_long_up_to_half_a_minute() -> None:
    restarts = Restarts()
    assert [restarts.delay(float(now)) for now in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_what_keeps_dying_is_left_down() -> None:
    restarts = Restarts()
    delays = [restarts.delay(0.0) for _ in range(LIMIT + 1)]
    assert None not in delays[:-1]
    assert delays[-1] is None


def test_old_deaths_are_forgotten() -> None:
    restarts = Restarts()
    for _ in range(LIMIT):
        restarts.delay(0.0)
    assert restarts.delay(WINDOW_S) == 1
