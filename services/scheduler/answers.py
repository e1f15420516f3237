"""How long answers are, learned from those that ended. Pure.

`max_tokens` is a bound that callers rarely come near, so it alone says little of the decoding
that a placement brings with it.
"""

from services.scheduler.facts import Pool, Request

KEEP = 0.95
"""What the mean keeps of its past at each answer."""
FIRST_GUESS = 128.0


class AnswerLengths:
    """The mean length of each pool's answers, in tokens."""

    def __init__(self) -> None:
        self._means: dict[Pool, float] = {}

    def learn(self, pool: Pool, tokens: int) -> None:
        """An answer ended."""
        mean = self._means.get(pool, float(tokens))
        self._means[pool] = KEEP * mean + (1 - KEEP) * tokens

    def expected(self, request: Request) -> float:
        """Tokens that the request is likely to generate."""
        return min(float(request.max_tokens), self._means.get(request.pool, FIRST_GUESS))
