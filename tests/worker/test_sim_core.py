"""The simulated engine's step, in virtual time."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.sim_core import (
    Removed,
    SimCore,
    SimRun,
    SimSettings,
    Step,
    Stored,
    read_settings,
)
from services.worker.sim_words import WordTokens

WORDS = tuple(range(100, 200))


def run(name: str, prompt: list[int], max_tokens: int = 3, block_size: int = 4) -> SimRun:
    return SimRun(name, WordTokens(prompt, block_size, WORDS), max_tokens)


def core(**settings: float) -> SimCore:
    defaults: dict[str, float] = {"base_ms": 10, "prefill_us": 100, "decode_us": 1000}
    return SimCore(SimSettings(**{**defaults, "block_size": 4, **settings}))  # type: ignore[arg-type]


def play(engine: SimCore) -> list[Step]:
    steps = []
    while not engine.is_idle:
        steps.append(engine.begin())
        engine.finish()
    return steps


def millis(steps: list[Step]) -> list[float]:
    return [round(step.duration_s * 1e3, 3) for step in steps]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", SimSettings(), id="nothing-said-is-the-defaults"),
        pytest.param("base_ms=4.5", SimSettings(base_ms=4.5), id="a-fraction-of-a-millisecond"),
        pytest.param(
            "capacity_blocks=200000,budget=100000,max_running=4096",
            SimSettings(capacity_blocks=200_000, budget=100_000, max_running=4096),
            id="large-sizes",
        ),
        pytest.param("budget=1e5", SimSettings(budget=100_000), id="a-whole-number-as-a-float"),
    ],
)
def test_settings_are_read(text: str, expected: SimSettings) -> None:
    assert read_settings(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("base=3", "'base' is no setting; known are base_ms", id="an-unknown-key"),
        pytest.param("base_ms", "base_ms must be a number, got ''", id="no-value"),
        pytest.param("budget=x", "budget must be a number, got 'x'", id="no-number"),
        pytest.param("budget=1.5", "budget must be a whole number, got '1.5'", id="half-a-token"),
        pytest.param("budget=inf", "budget must be a whole number", id="endless-budget"),
        pytest.param("block_size=0", "block_size must be 1 or more, got 0", id="no-block"),
        pytest.param("decode_us=-1", "decode_us must be 0 or more", id="time-runs-forward"),
        pytest.param("decode_us=nan", "decode_us must be 0 or more", id="not-a-number"),
    ],
)
def test_wrong_settings_are_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="^" + complaint.replace("(", r"\(")):
        read_settings(text)


def test_a_step_costs_its_base_its_prefill_and_its_decodes() -> None:
    engine = core()
    engine.submit(run("a", list(range(8)), max_tokens=3))
    # 10 + 8·0.1 + 1·1, then 10 + 1 for each further token
    assert millis(play(engine)) == [11.8, 11.0, 11.0]


def test_a_prompt_over_the_budget_takes_several_steps() -> None:
    engine = core(budget=5)
    engine.submit(run("a", list(range(12)), max_tokens=1))
    # 5 + 5 + 2 tokens; only the last step brings a token
    assert millis(play(engine)) == [10.5, 10.5, 11.2]


def test_a_running_prompt_goes_before_a_waiting_one() -> None:
    engine = core(budget=6)
    first, second = run("a", list(range(10)), 1), run("b", list(range(50, 54)), 1)
    engine.submit(first)
    engine.submit(second)
    engine.begin()
    engine.finish()
    assert (first.computed, second.computed) == (6, 0)
    engine.begin()
    assert (first.computed, second.computed) == (10, 2)


def test_no_more_than_max_running_run() -> None:
    engine = core(max_running=2)
    for name in "abc":
        engine.submit(run(name, [1, 2], max_tokens=2))
    assert [len(step.admitted) for step in play(engine)] == [2, 0, 1, 0]


@pytest.mark.parametrize(
    ("prompt", "cached"),
    [
        pytest.param([1, 2, 3, 4, 5, 6, 7, 8, 9], 8, id="full-blocks-are-reused"),
        pytest.param([1, 2, 3, 4, 5, 6, 7, 8], 7, id="the-last-token-is-always-computed"),
        pytest.param([1, 2, 3, 4, 9, 9, 9, 9, 9], 4, id="up-to-where-it-differs"),
        pytest.param([9, 2, 3, 4, 5, 6, 7, 8, 9], 0, id="a-gap-ends-the-prefix"),
        pytest.param([1, 2, 3], 0, id="less-than-a-block"),
    ],
)
def test_what_is_cached_is_not_computed_again(prompt: list[int], cached: int) -> None:
    engine = core()
    engine.submit(run("a", [1, 2, 3, 4, 5, 6, 7, 8], max_tokens=1))
    play(engine)
    again = run("b", prompt, max_tokens=1)
    engine.submit(again)
    play(engine)
    assert again.cached_tokens == cached
    assert (engine.prefix_queried_tokens, engine.prefix_hit_tokens) == (8 + len(prompt), cached)


def test_blocks_that_decoding_filled_are_reused() -> None:
    engine = core()
    first = run("a", [1, 2, 3, 4, 5, 6], max_tokens=7)
    engine.submit(first)
    play(engine)
    tokens = first.tokens
    assert isinstance(tokens, WordTokens)
    # 13 tokens: the last has no keys and values, since nothing came after it
    again = run("b", [*tokens.block_tokens(0, 3), 1, 1], max_tokens=1)
    engine.submit(again)
    play(engine)
    assert again.cached_tokens == 12


def test_the_least_recently_used_goes_first_and_a_chain_from_its_tail() -> None:
    engine = core(capacity_blocks=2)
    old = run("a", [1, 2, 3, 4, 5, 6, 7, 8], max_tokens=1)
    engine.submit(old)
    play(engine)
    list(engine.take_changes())
    engine.submit(run("b", [9, 9, 9, 9], max_tokens=1))
    play(engine)
    tail = old.tokens.block_hashes(2)[1]
    assert [each.hashes for each in engine.take_changes() if isinstance(each, Removed)] == [[tail]]


def test_lower_priority_numbers_go_first() -> None:
    engine = core(max_running=1)
    for name, priority in (("a", 0), ("b", 5), ("c", -1), ("d", 0)):
        engine.submit(SimRun(name, WordTokens([1], 4, WORDS), 1, priority))
    admitted = [run.run_id for step in play(engine) for run in step.admitted]
    assert admitted == ["c", "a", "d", "b"]


def test_an_aborted_run_gives_no_token() -> None:
    engine = core()
    engine.submit(run("a", [1, 2], max_tokens=5))
    engine.submit(run("b", [1, 2], max_tokens=5))
    engine.begin()
    assert engine.abort("a") is not None
    assert [each.run.run_id for each in engine.finish()] == ["b"]
    assert engine.abort("a") is None


requests = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 9)),
    min_size=1,
    max_size=12,
)


@given(requests, st.integers(1, 9), st.integers(1, 20), st.integers(1, 4))
def test_every_run_gets_its_tokens_and_the_events_tell_the_cache(
    asked: list[tuple[list[int], int]], budget: int, capacity: int, most: int
) -> None:
    engine = core(budget=budget, capacity_blocks=capacity, max_running=most)
    for number, (prompt, max_tokens) in enumerate(asked):
        engine.submit(run(str(number), prompt, max_tokens))
    got: Counter[str] = Counter()
    cached: set[int] = set()
    while not engine.is_idle:
        step = engine.begin()
        assert step.duration_s > 0
        assert len(engine.running) <= most
        got.update(each.run.run_id for each in engine.finish())
        for change in engine.take_changes():
            if isinstance(change, Stored):
                stored = change.run.tokens.block_hashes(change.last)[change.first : change.last]
                assert not cached & set(stored)
                cached |= set(stored)
            else:
                assert cached >= set(change.hashes)
                cached -= set(change.hashes)
        assert len(cached) == len(engine.cache) <= capacity
    assert got == {str(number): max_tokens for number, (_, max_tokens) in enumerate(asked)}
    assert (engine.queued_prefill_tokens, engine.kv_usage) == (0, 0)
