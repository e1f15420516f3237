"""The doors for GET: what there is, and how this edge fares."""

import time
from collections.abc import Callable
from importlib.metadata import version

from services.edge import events, openapi
from services.edge.config import Config
from services.edge.doors import Enter
from services.edge.fleet import Fleet
from services.edge.http import JSON, Message, Receive, Send, send_answer, send_body
from services.edge.reception import Reception
from services.edge.refusals import Unauthorized, Unavailable, UnknownModel, answer
from services.edge.tenants import key_or_bearer
from services.edge.visits import request_id_header
from services.edge.workers import Pool

MODELS = "/v1/models"  # of OpenAI and of Anthropic: their SDKs read the same answer
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

    def doors(self) -> dict[str, Enter]:
        """What answers, by path."""
        return {
            MODELS: self._models,
            f"{MODELS}/": self._model,
            "/docs": self._page,
            "/healthz": self._health,
            "/metrics": self._metrics,
            "/openapi.json": self._document,
            "/readyz": self._readiness,
            "/version": self._versions,
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
        missing = self._fleet.missing(self._pools)
        if self._is_draining():
            await send_answer(send, answer(Unavailable("The edge is draining.")), [])
        elif missing:
            reason = f"No worker is ready for {', '.join(missing)}."
            await send_answer(send, answer(Unavailable(reason)), [])
        else:
            await send_body(send, 200, b'{"status":"ready"}', [JSON])

    async def _models(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._tell(scope, send, lambda: events.models(self._ready(), self._created))

    async def _model(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._tell(scope, send, lambda: self._find(scope["path"].removeprefix(f"{MODELS}/")))

    async def _tell(
        self, scope: Message, send: Send, find: Callable[[], bytes | UnknownModel]
    ) -> None:
        """What only those may know who have a key, where there are keys."""
        asked = dict(scope["headers"])
        tenant = self._reception.recognise(key_or_bearer(asked))
        found = tenant if isinstance(tenant, Unauthorized) else find()
        request_id = request_id_header(asked)
        if isinstance(found, bytes):
            await send_body(send, 200, found, [JSON, request_id])
        else:
            await send_answer(send, answer(found), [request_id])

    def _find(self, name: str) -> bytes | UnknownModel:
        ready = self._ready()
        if name not in ready:
            return UnknownModel(name, tuple(sorted(ready)))
        return events.model(name, ready[name], self._created)

    def _ready(self) -> dict[str, Pool]:
        return {name: pool for name, pool in self._fleet.pools.items() if pool.ready}
