"""How alike two vectors are, and what is most alike. Pure."""

import math
from collections.abc import Iterable, Sequence
from operator import mul

Vector = Sequence[float]


def cosines(pairs: Iterable[tuple[Vector, Vector]]) -> list[float]:
    """The cosine of the angle of each pair, -1 to 1; 0 where a vector has no direction."""
    return [_cosine(one, other) for one, other in pairs]


def best(scores: Sequence[float], limit: int) -> list[int]:
    """The places of the highest scores, highest first; of equal ones the earlier place first."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:limit]


def _cosine(one: Vector, other: Vector) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    if not lengths:
        return 0.0
    product: float = sum(map(mul, one, other))
    # Rounding would let a vector be more than the same as itself.
    return min(1.0, max(-1.0, product / lengths))
