"""Where the time to first token went."""

from hypothesis import given
from hypothesis import strategies as st

from services.worker.stages import FirstTokenTimes, Stages, stages


def test_stages_lie_between_the_readings() -> None:
    times = FirstTokenTimes(10.0, 10.001, 10.003, 10.010)
    assert stages(times, departed_s=10.0105) == Stages(1000, 2000, 7000, 500)


@given(st.lists(st.floats(0, 1e6), min_size=5, max_size=5).map(sorted))
def test_stages_sum_to_the_whole(readings: list[float]) -> None:
    parts = stages(FirstTokenTimes(*readings[:4]), readings[4])
    total = (
        parts.worker_ingress_us + parts.engine_queue_us + parts.prefill_us + parts.worker_egress_us
    )
    assert total == round((readings[4] - readings[0]) * 1e6)
