"""The doors for GET: what there is, and how this edge fares."""

import time
from collections.abc import Callable
from importlib.metadata import version

from services.edge.apis import events, openapi
from services.edge.apis.refusals import Unauthorized, Unavailable, UnknownModel
from services.edge.config import Config
from services.edge.doors import Door
from services.edge.fleet import Fleet
from services.edge.glances import glanced, tell
from services.edge.http import JSON, Message, Receive, Send, send_body
from services.edge.reception import Reception
from services.edge.tenants import key_or_bearer
from services.edge.workers import Pool

MODEL = "/v1/models/"
HTML = (b"content-type", b"text/html; charset=utf-8")
METRICS_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Reading:
    """Answers what is asked without a body."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        reception: Reception,
        scrape: Callable[[], bytes],
        is_draining: Callable[[], bool],
    ) -> None:
        self._pools = config.pools
        self._fleet = fleet
        self._reception = reception
        self._scrape = scrape
        self._is_draining = is_draining
        self._created = int(time.time())
        self._version = events.version(version("headway"))

    def doors(self) -> dict[str, Door]:
        """What answers, by path."""
        return {
            "/v1/models": glanced("models", self._models, "GET"),
            f"{MODEL}{{model}}": glanced("model", self._model, "GET"),
            "/docs": glanced("docs", self._page, "GET"),
            "/health": glanced(
                "health", self._readiness, "GET"
            ),  # vLLM's, which answers once it can
            "/healthz": glanced("healthz", self._health, "GET"),
            "/metrics": glanced("metrics", self._metrics, "GET"),
            "/openapi.json": glanced("openapi", self._document, "GET"),
            "/ping": glanced("ping", self._readiness, "GET"),  # SageMaker's, of vLLM too
            "/readyz": glanced("readyz", self._readiness, "GET"),
            "/version": glanced("version", self._versions, "GET"),
        }

    async def _health(self, scope: Message, receive: Receive, send: Send) -> None:
        await send_body(send, 200, b'{"status":"ok"}', [JSON])

    async def _document(self, scope: Message, receive: Receive, send: Send) -> None:
        await send_body(send, 200, openapi.document(), [JSON])

    async def _page(self, scope: Message, receive: Receive, send: Send) -> None:
        await send_body(send, 200, openapi.page(), [HTML])

    async def _metrics(self, scope: Message, receive: Receive, send: Send) -> None:
        await send_body(send, 200, self._scrape(), [METRICS_TEXT])

    async def _versions(self, scope: Message, receive: Receive, send: Send) -> None:
        await send_body(send, 200, self._version, [JSON])

    async def _readiness(self, scope: Message, receive: Receive, send: Send) -> None:
        await tell(send, self._state())

    def _state(self) -> bytes | Unavailable:
        missing = self._fleet.missing(self._pools)
        if self._is_draining():
            return Unavailable("The edge is draining.")
        if missing:
            return Unavailable(f"No worker is ready for {', '.join(missing)}.")
        return b'{"status":"ready"}'

    async def _models(self, scope: Message, receive: Receive, send: Send) -> None:
        found = self._stranger(scope) or events.models(self._ready(), self._created)
        await tell(send, found)

    async def _model(self, scope: Message, receive: Receive, send: Send) -> None:
        await tell(send, self._stranger(scope) or self._find(scope["path"].removeprefix(MODEL)))

    def _stranger(self, scope: Message) -> Unauthorized | None:
        tenant = self._reception.recognise(key_or_bearer(dict(scope["headers"])))
        return tenant if isinstance(tenant, Unauthorized) else None

    def _find(self, name: str) -> bytes | UnknownModel:
        ready = self._ready()
        if name not in ready:
            return UnknownModel(name, tuple(sorted(ready)))
        return events.model(name, ready[name], self._created)

    def _ready(self) -> dict[str, Pool]:
        return {name: pool for name, pool in self._fleet.pools.items() if pool.ready}
