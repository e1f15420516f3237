"""What a load asks for: the same by the same seed, and each workload's shape."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from bench.overhead.workload import Load, arrivals_s, talks

LOAD = Load(requests=6, at_once=2, prompt_tokens=5, max_tokens=3)


def asked(load: Load) -> list[list[dict[str, Any]]]:
    return [[json.loads(body) for body in talk] for talk in talks(load)]


def test_a_seed_makes_the_same_requests() -> None:
    assert list(talks(LOAD)) == list(talks(LOAD))
    assert list(talks(LOAD)) != list(talks(replace(LOAD, seed=2)))


def test_prompts_have_as_many_words_as_tokens_and_are_all_different() -> None:
    contents = [talk[0]["messages"][0]["content"] for talk in asked(LOAD)]
    assert {len(content.split(" ")) for content in contents} == {5}
    assert len(set(contents)) == 6


def test_shared_prompts_begin_with_one_of_a_few_system_prompts() -> None:
    found = asked(replace(LOAD, workload="shared", requests=40, prefixes=3))
    assert len({talk[0]["messages"][0]["content"] for talk in found}) == 3
    assert len({talk[0]["messages"][1]["content"] for talk in found}) == 40


def test_a_chat_goes_on_with_all_that_was_said() -> None:
    for talk in asked(replace(LOAD, workload="chat", turns=3)):
        assert [len(turn["messages"]) for turn in talk] == [2, 4, 6]
        for earlier, later in pairwise(talk):
            assert later["messages"][: len(earlier["messages"])] == earlier["messages"]


def test_engines_that_know_no_end_are_not_told_to_ignore_it() -> None:
    assert "ignore_eos" not in asked(LOAD)[0][0]
    assert asked(replace(LOAD, ignore_eos=True))[0][0]["ignore_eos"] is True


def test_arrivals_are_at_the_rate_that_was_asked() -> None:
    times = arrivals_s(Load(requests=2000, rate_per_s=10.0))
    assert times == sorted(times)
    assert 180 < times[-1] < 220


@pytest.mark.parametrize("wrong", [{}, {"at_once": 1, "rate_per_s": 1.0}, {"workload": "other"}])
def test_a_load_that_says_nothing_clear_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"either at once or by rate|workload"):
        Load(**({"at_once": 1} if "workload" in wrong else {}) | wrong)
