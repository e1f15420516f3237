"""The id that every answer bears, so that it can be found again. Ids are unique, not secret."""

import random
from collections.abc import Mapping

ECHO_LIMIT = 128  # of a caller's own X-Request-Id

_chance = random.Random(random.SystemRandom().getrandbits(256))


def unique() -> str:
    """An id that nobody had before."""
    return f"{_chance.getrandbits(128):032x}"


def header(asked: Mapping[bytes, bytes], own: str) -> tuple[bytes, bytes]:
    """The header of an answer to these headers: the caller's own id, or ours."""
    callers = asked.get(b"x-request-id", b"")
    fits = 0 < len(callers) <= ECHO_LIMIT and callers.isascii()
    return (b"x-request-id", callers if fits else own.encode())
