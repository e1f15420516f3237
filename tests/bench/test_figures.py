"""What answers sum up to."""

from bench.overhead.figures import Answer, sum_up

WHOLE = Answer(200, "", tokens=4, deltas=4, ttft_s=0.1, e2e_s=0.4, gaps_s=[0.1, 0.1, 0.2])


def test_failures_count_for_nothing_else() -> None:
    figures = sum_up([WHOLE, WHOLE, Answer(500, "broken")], seconds=2.0, cpu_s=0.5)
    assert (figures["requests"], figures["failed"], figures["tokens"]) == (2, 1, 8)
    assert (figures["requests_per_s"], figures["tokens_per_s"]) == (1.0, 4.0)
    assert (figures["ttft_p50_ms"], figures["e2e_p99_ms"], figures["gap_p99_ms"]) == (100, 400, 200)
    assert figures["load_cores"] == 0.25


def test_what_was_not_measured_is_absent() -> None:
    figures = sum_up([Answer(500, "broken")], seconds=1.0, cpu_s=0.1)
    assert "ttft_p50_ms" not in figures
    assert "gap_p50_ms" not in sum_up([Answer(200, tokens=1, e2e_s=0.1)], 1.0, 0.1)
