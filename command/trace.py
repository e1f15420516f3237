"""`headway trace`: fetches a request's ledger from the edges, and draws it."""

import json
from typing import Any
from urllib.error import HTTPError, URLError
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
    ledgers = [ledger for edge in edges for ledger in _get(edge, "")]
    if not ledgers:
        raise CommandError("no request has been answered yet")
    found: dict[str, Any] = max(ledgers, key=lambda ledger: ledger["started_unix_ms"])
    return found


def _find(edges: list[str], wanted: str) -> dict[str, Any]:
    for edge in edges:
        found: dict[str, Any] | None = _get(edge, f"/{quote(wanted, safe='')}")
        if found is not None:
            return found
    raise CommandError(f"no recent request has the id {wanted}")


def _get(edge: str, path: str) -> Any:
    """What the edge's admin listener answers; None when it knows no such thing."""
    try:
        with urlopen(f"http://{edge}/headway/ledgers{path}", timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except HTTPError as error:
        if error.code == 404:
            return None
        raise CommandError(f"the edge's admin listener answers {error.code}") from error
    except URLError as error:
        raise CommandError(f"the edge's admin listener {edge} does not answer") from error
