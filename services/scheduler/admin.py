"""The HTTP door for people and their tools: the fleet and the last decisions, beside /metrics.

Prometheus' own listener serves it, in threads. They never touch the core: what they need is
written down on the event loop, which owns it.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from google.protobuf.message import Message

from services.scheduler.plain import plain

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

ROOM = "/headway/"
MOST_DECISIONS = 200
"""In one answer: they are written down between placements, which wait for that."""
LOOP_S = 5.0
"""How long the event loop may take to write an answer down."""
OK, BAD_REQUEST, NOT_FOUND = "200 OK", "400 Bad Request", "404 Not Found"
NOT_ALLOWED, UNAVAILABLE = "405 Method Not Allowed", "503 Service Unavailable"

Answer = tuple[str, object]


class Admin:
    """A WSGI application: ours under /headway/, `metrics` elsewhere."""

    def __init__(
        self,
        metrics: "WSGIApplication",
        loop: asyncio.AbstractEventLoop,
        workers: Callable[[str], Message],
        decisions: Callable[[int], Message],
    ) -> None:
        """`workers` and `decisions` are called on the loop only."""
        self._metrics = metrics
        self._loop = loop
        self._workers = workers
        self._decisions = decisions

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer one request."""
        if not environ["PATH_INFO"].startswith(ROOM):
            return self._metrics(environ, start_response)
        status, answer = self._answer(environ)
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def _answer(self, environ: "WSGIEnvironment") -> Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return NOT_ALLOWED, {"error": "only GET is answered here"}
        asked = parse_qs(environ.get("QUERY_STRING", ""))
        match environ["PATH_INFO"].removeprefix(ROOM):
            case "workers":
                model = asked.get("model", [""])[-1]
                return self._on_loop(lambda: self._workers(model))
            case "decisions":
                limit = _limit(asked.get("limit", ["0"])[-1])
                if limit is None:
                    most = f"limit must be a whole number, at most {MOST_DECISIONS}"
                    return BAD_REQUEST, {"error": most}
                return self._on_loop(lambda: self._decisions(limit))
            case _:
                known = f"{ROOM}workers and {ROOM}decisions"
                return NOT_FOUND, {"error": f"there are only {known}"}

    def _on_loop(self, write: Callable[[], Message]) -> Answer:
        async def written() -> Message:
            return write()

        if self._loop.is_closed():
            return UNAVAILABLE, {"error": "the scheduler ends"}
        writing = asyncio.run_coroutine_threadsafe(written(), self._loop)
        try:
            return OK, plain(writing.result(LOOP_S))
        except TimeoutError:
            return UNAVAILABLE, {"error": "the scheduler is too busy to answer"}


def _limit(text: str) -> int | None:
    """None for what is none."""
    if not text.isdecimal() or len(text) > len(str(MOST_DECISIONS)):  # int() refuses long ones
        return None
    limit = int(text)
    return limit if limit <= MOST_DECISIONS else None
