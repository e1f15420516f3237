"""How long answers are thought to be."""

import pytest

from services.scheduler.answers import FIRST_GUESS, AnswerLengths
from tests.scheduler.makers import request


@pytest.mark.parametrize(
    ("ended", "max_tokens", "expected"),
    [
        pytest.param([], 4000, FIRST_GUESS, id="a-guess-before-the-first"),
        pytest.param([], 5, 5, id="never-more-than-asked"),
        pytest.param([30, 30], 4000, 30, id="as-long-as-those-before"),
        pytest.param([30] + [90] * 200, 4000, 90, id="the-past-fades"),
    ],
)
def test_expected(ended: list[int], max_tokens: int, expected: float) -> None:
    lengths = AnswerLengths()
    asked = request(max_tokens=max_tokens)
    for tokens in ended:
        lengths.learn(asked.pool, tokens)
    assert lengths.expected(asked) == pytest.approx(expected, rel=0.01)


def test_pools_differ() -> None:
    lengths = AnswerLengths()
    lengths.learn(request(model="short").pool, 3)
    assert lengths.expected(request(model="other", max_tokens=4000)) == FIRST_GUESS
