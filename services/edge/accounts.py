"""The accounts of the last requests, for `headway trace`. Bounded. Pure."""

from collections import deque
from typing import Any

LIMIT = 512


class Accounts:
    """The last requests, oldest first."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=limit)

    def keep(self, account: dict[str, Any]) -> None:
        """Keep one, and forget the oldest beyond the limit."""
        self._kept.append(account)

    def latest(self) -> list[dict[str, Any]]:
        """All that are kept, newest first."""
        return list(reversed(self._kept))

    def find(self, wanted: str) -> dict[str, Any] | None:
        """The newest of this request id or trace id."""
        matching = (
            account
            for account in reversed(self._kept)
            if wanted in (account["request_id"], account["trace_id"])
        )
        return next(matching, None)
