"""A greedy request has one answer by every door: alone or among 32, whole or streamed, each of its
bodies and events as the SDKs' own types have it.

float32 on the CPU: what a batch's composition changes is in the last bits. A difference in text
would be one of ours, or two tokens that are equally likely to six digits; no case has such a pair.
"""

from typing import NamedTuple

import pytest

from tests.end_to_end.answers import Answer, at_once
from tests.end_to_end.cases import CASES
from tests.system import System

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

every_case = pytest.mark.parametrize("name", CASES)


class Answers(NamedTuple):
    """To every case, by name."""

    alone: dict[str, Answer]
    together: dict[str, Answer]
    streamed: dict[str, Answer]


@pytest.fixture(scope="module")
def answers(vllm_system: System) -> Answers:
    streams = {name: asked.streamed() for name, asked in CASES.items()}
    return Answers(
        alone=at_once(vllm_system.url, CASES, most=1),
        together=at_once(vllm_system.url, CASES, most=len(CASES)),
        streamed=at_once(vllm_system.url, streams, most=len(CASES)),
    )


@every_case
def test_the_same_among_all_others_as_alone(answers: Answers, name: str) -> None:
    assert answers.together[name] == answers.alone[name]


@every_case
def test_the_same_streamed(answers: Answers, name: str) -> None:
    assert answers.streamed[name] == answers.alone[name]
