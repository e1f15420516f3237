"""The edge's HTTP door, as a raw ASGI application: read, decide, write."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from services.edge import events, metrics
from services.edge.accounts import Accounts
from services.edge.apis import Api, apis
from services.edge.ask import Ask
from services.edge.client import CLIENT
from services.edge.collecting import Collector
from services.edge.config import Config
from services.edge.exchange import Exchange
from services.edge.http import JSON, Message, Receive, Send, read_body, send_answer, send_body
from services.edge.lookups import Lookups
from services.edge.refusals import (
    BodyTooLarge,
    Invalid,
    Refusal,
    Unauthorized,
    Unavailable,
    UnknownModel,
    UnknownPath,
    WrongMethod,
    answer,
)
from services.edge.relay import Hops
from services.edge.shelf import Shelf
from services.edge.streaming import Stream
from services.edge.tenants import Tenants
from services.edge.visits import CLIENT_LEFT, Visit, Visits

# Larger bodies are parsed in a thread: JSON of megabytes would stop every stream.
PARSE_ON_LOOP_BYTES = 256 * 2**10

READING = ("/v1/models", "/healthz", "/readyz", "/metrics")
METRICS_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Edge:
    """The application that clients talk to."""

    def __init__(
        self,
        config: Config,
        hops: Hops,
        tenants: Tenants,
        visits: Visits,
        scrape: Callable[[], bytes],
    ) -> None:
        self._config = config
        self._hops = hops
        self._tenants = tenants
        self._visits = visits
        self._scrape = scrape
        self._created = int(time.time())
        shelf = Shelf(config.responses_store_bytes)
        self._apis = apis(shelf)
        self._lookups = Lookups(hops, tenants, shelf, config.body_limit_bytes, self._name_models)
        self.draining = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path, method = scope["path"], scope["method"]
        api = self._apis.get(path)
        if api is not None and method == "POST":
            visit = Visit(api.endpoint, dict(scope["headers"]), scope["extensions"][CLIENT])
            await self._generate(visit, api, receive, send)
        elif api is not None:
            await send_answer(send, api.refused(WrongMethod(method, "POST")), [])
        elif self._lookups.has(path):
            await self._lookups(scope, receive, send)
        elif path in READING and method in ("GET", "HEAD"):
            await self._read(path, send)
        else:
            await send_answer(send, answer(_no_door(method, path)), [])

    async def _read(self, path: str, send: Send) -> None:
        match path:
            case "/healthz":
                await send_body(send, 200, b'{"status":"ok"}', [JSON])
            case "/readyz":
                await self._readiness(send)
            case "/v1/models":
                pools = self._hops.fleet.pools
                ready = {name: pool for name, pool in pools.items() if pool.ready}
                await send_body(send, 200, events.models(ready, self._created), [JSON])
            case _:
                await send_body(send, 200, self._scrape(), [METRICS_TEXT])

    async def _readiness(self, send: Send) -> None:
        missing = self._hops.fleet.missing(self._config.pools)
        if self.draining:
            await send_answer(send, answer(Unavailable("The edge is draining.")), [])
        elif missing:
            reason = f"No worker is ready for {', '.join(missing)}."
            await send_answer(send, answer(Unavailable(reason)), [])
        else:
            await send_body(send, 200, b'{"status":"ready"}', [JSON])

    async def _generate(self, visit: Visit, api: Api[Any], receive: Receive, send: Send) -> None:
        metrics.open_requests.inc()
        try:
            refusal = await self._serve(visit, api, receive, send)
            if refusal is not None:
                refused = api.refused(self._name_models(refusal))
                visit.status = refused.status
                await send_answer(send, refused, visit.headers())
        except asyncio.CancelledError:
            if visit.status != CLIENT_LEFT:
                await _cut_off(visit, api, send)
        finally:
            metrics.open_requests.dec()
            self._visits.account(visit)

    async def _serve(
        self, visit: Visit, api: Api[Any], receive: Receive, send: Send
    ) -> Refusal | None:
        tenant = self._tenants.recognise(api.authorization(visit.asked))
        if isinstance(tenant, Unauthorized):
            return tenant
        ask = await self._read_ask(api, tenant, receive)
        if ask is None:
            visit.status = CLIENT_LEFT
            return None
        if not isinstance(ask, Ask):
            return ask
        if self._hops.fleet.is_unknown(ask.model):
            return UnknownModel(ask.model, ())
        with self._exchange(visit, ask, tenant) as exchange:
            return await exchange.begin() or await _respond(visit, exchange, send)

    async def _read_ask(self, api: Api[Any], tenant: str, receive: Receive) -> Ask | Refusal | None:
        """What is asked, or None when the client left first. The body is not kept beside it."""
        body = await read_body(receive, self._config.body_limit_bytes)
        if body is None or isinstance(body, BodyTooLarge):
            return body
        read = await _read(api, body)
        return read if isinstance(read, Invalid) else api.ask(read, tenant)

    @contextmanager
    def _exchange(self, visit: Visit, ask: Ask, tenant: str) -> Iterator[Exchange]:
        """The exchange, and the watch for a client that leaves: both end with the block."""
        self._visits.trace(visit, ask.model)
        visit.ledger.charge("edge_receive", time.monotonic() - visit.ledger.received_s)
        exchange = visit.exchange = Exchange(
            self._hops,
            ask,
            visit.request_id,
            tenant,
            visit.ledger,
            visit.traceparent,
            self._config.unread_limit,
        )
        serving = asyncio.current_task()
        assert serving is not None, "a coroutine runs in a task"
        visit.client.watch(lambda: _leave(visit, serving))
        try:
            yield exchange
        finally:
            visit.client.unwatch()
            exchange.close()

    def _name_models(self, refusal: Refusal) -> Refusal:
        if not isinstance(refusal, UnknownModel):
            return refusal
        pools = self._hops.fleet.pools
        names = sorted(name for name, pool in pools.items() if pool.generates)
        return UnknownModel(refusal.model, tuple(names))


async def _respond(visit: Visit, exchange: Exchange, send: Send) -> Refusal | None:
    if exchange.ask.stream:
        visit.status = 200
        return await Stream(exchange, send, visit.client, visit.explain_as).run(visit.headers())
    body = await Collector(exchange).collect(visit.explain_as)
    if not isinstance(body, bytes):
        return body
    visit.status = 200
    visit.client.hold_head()
    await send_body(send, 200, body, [JSON, *visit.headers()])
    return None


async def _cut_off(visit: Visit, api: Api[Any], send: Send) -> None:
    """End an answer for which the time to drain was too short."""
    closing = Unavailable("The edge is shutting down.")
    if visit.exchange is not None and visit.exchange.writer is not None:
        last = visit.exchange.writer.broken(closing)
        await send({"type": "http.response.body", "body": last})
    else:
        cut_off = api.refused(closing)
        visit.status = cut_off.status
        await send_answer(send, cut_off, visit.headers())


async def _read(api: Api[Any], body: bytes) -> Any:
    if len(body) > PARSE_ON_LOOP_BYTES:
        return await asyncio.to_thread(api.read, body)
    return api.read(body)


def _leave(visit: Visit, serving: "asyncio.Task[None]") -> None:
    """End the serving task: its client left."""
    visit.status = CLIENT_LEFT
    serving.cancel()


def _no_door(method: str, path: str) -> Refusal:
    if path in READING:
        return WrongMethod(method, "GET")
    return UnknownPath(method, path)


class Admin:
    """The application that operators talk to, on an address of its own."""

    def __init__(self, edge: Edge, accounts: Accounts) -> None:
        self._edge = edge
        self._accounts = accounts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if path == "/headway/ledgers":
            await send_body(send, 200, events.accounts(self._accounts.latest()), [JSON])
        elif path.startswith("/headway/ledgers/"):
            await self._account(path.removeprefix("/headway/ledgers/"), send)
        else:
            await self._edge(scope, receive, send)

    async def _account(self, wanted: str, send: Send) -> None:
        account = self._accounts.find(wanted)
        if account is None:
            missing = answer(UnknownPath("GET", f"/headway/ledgers/{wanted}"))
            await send_answer(send, missing, [])
        else:
            await send_body(send, 200, events.accounts(account), [JSON])
