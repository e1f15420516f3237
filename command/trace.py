"""`headway trace`: fetches a request's ledger from the edges, and draws it."""

import json
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

from command.errors import CommandError
from command.state import running, state_home
from command.waterfall import draw

TIMEOUT_S = 5.0


def trace(wanted: str) -> None:
    """Print the waterfall of a request, by request or trace id; of the latest without one."""
    services = running(state_home()).services
    edges = [each.metrics_address for each in services if each.service == "edge"]
    ledger = _latest(edges) if not wanted else _find(edges, wanted)
    for line in draw(ledger):
        print(line)


def _latest(edges: list[str]) -> dict[str, Any]:
    ledgers = [ledger for ledgers in _ask(edges, "") for ledger in ledgers]
    if not ledgers:
        raise CommandError("no request has been answered yet")
    found: dict[str, Any] = max(ledgers, key=lambda ledger: ledger["started_unix_ms"])
    return found


def _find(edges: list[str], wanted: str) -> dict[str, Any]:
    # An id that a client chose may have come to several edges.
    found = _ask(edges, f"/{quote(wanted, safe='')}")
    if not found:
        raise CommandError(f"no recent request has the id {wanted}")
    newest: dict[str, Any] = max(found, key=lambda ledger: ledger["started_unix_ms"])
    return newest


def _ask(edges: list[str], path: str) -> list[Any]:
    """What the edges' admin listeners answer; without those that know no such thing, or are down.

    Raises CommandError when all are down.
    """
    answers, silent = [], []
    for edge in edges:
        try:
            answer = _get(edge, path)
        except (OSError, HTTPException):
            silent.append(edge)
            continue
        if answer is not None:
            answers.append(answer)
    if len(silent) == len(edges):
        raise CommandError(f"the edge's admin listener {', '.join(silent)} does not answer")
    return answers


def _get(edge: str, path: str) -> Any:
    """What one edge's admin listener answers; None when it knows no such thing."""
    try:
        with urlopen(f"http://{edge}/headway/ledgers{path}", timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except HTTPError as error:
        if error.code == 404:
            return None
        raise CommandError(f"the edge's admin listener answers {error.code}") from error
