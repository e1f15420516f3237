"""The edge's HTTP door, as a raw ASGI application: read, decide, write."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from services.edge import metrics, request_ids
from services.edge.accounts import Accounts
from services.edge.apis import events
from services.edge.apis.ask import Ask
from services.edge.apis.generating import Api, apis
from services.edge.apis.openai_embeddings import parse_embedding
from services.edge.apis.openai_scoring import parse_rerank, parse_score
from services.edge.apis.openai_tokens import parse_detokenize, parse_tokenize
from services.edge.apis.refusals import (
    Defective,
    Refusal,
    Unauthorized,
    Unavailable,
    UnknownPath,
    answer,
)
from services.edge.client import CLIENT
from services.edge.collecting import Collector
from services.edge.config import Config
from services.edge.cors import Cors
from services.edge.doors import Door, Doors, closed
from services.edge.embeddings import Embeddings
from services.edge.exchange import Exchange
from services.edge.fitting import misfit, named
from services.edge.glances import noting
from services.edge.http import JSON, Message, Receive, Send, send_answer, send_body
from services.edge.inquiries import Inquiries
from services.edge.inquiry import Inquiry
from services.edge.lookups import KeptResponses, counting
from services.edge.reading import Reading
from services.edge.reception import Reception
from services.edge.relay import Hops
from services.edge.scoring import Scoring
from services.edge.shelf import Shelf
from services.edge.streaming import Stream
from services.edge.tenants import Tenants
from services.edge.tokens import Tokens
from services.edge.visits import CLIENT_LEFT, Visit, Visits, watched


def inquiries_of(config: Config, hops: Hops) -> dict[str, Inquiry[Any]]:
    """What is answered whole and generates nothing, by path."""
    embeddings, scoring, tokens = Embeddings(hops, config.shortened), Scoring(hops), Tokens(hops)
    rerank = Inquiry("rerank", parse_rerank, scoring.rerank)
    score = Inquiry("score", parse_score, scoring.score)
    return {
        "/v1/embeddings": Inquiry("embeddings", parse_embedding, embeddings.answer),
        **dict.fromkeys(("/v1/rerank", "/v2/rerank", "/rerank"), rerank),
        **dict.fromkeys(("/v1/score", "/score"), score),
        "/tokenize": Inquiry("tokenize", parse_tokenize, tokens.tokenize),
        "/detokenize": Inquiry("detokenize", parse_detokenize, tokens.detokenize),
        "/v1/messages/count_tokens": counting(hops),
    }


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
        self._reception = Reception(config, tenants)
        self._cors = Cors(config.cors_origins)
        self._visits = visits
        self._shelf = Shelf(config.responses_store_bytes)
        self._reading = Reading(config, hops.fleet, self._reception, scrape, self._is_draining)
        self._inquiries = Inquiries(self._reception, visits, hops.fleet)
        self.doors = self._all_doors()
        self.draining = False

    def _is_draining(self) -> bool:
        return self.draining

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._cors.is_configured:
            send = self._cors.sending(scope, send)
        enter = self.doors.enter.get((scope["path"], scope["method"]), self._look_around)
        try:
            await enter(scope, receive, send)
        except Exception:
            await self._own_up(scope, send)
            raise  # uvicorn logs it, and closes the connection

    async def _own_up(self, scope: Message, send: Send) -> None:
        """Answer for a fault of ours. Where an answer has begun, this fails too, as it should."""
        door = self.doors.find(scope["path"])
        told = answer(Defective()) if door is None else door.refused(Defective())
        named = request_ids.header(dict(scope["headers"]), request_ids.unique())
        await send_answer(send, told, [named])

    async def _look_around(self, scope: Message, receive: Receive, send: Send) -> None:
        """Enter a door that is not found at once, or say why not."""
        path, method = scope["path"], scope["method"]
        door = self.doors.find(path)
        if door is not None and door.takes(method):
            await door.enter(scope, receive, send)
        elif door is not None and method == "OPTIONS":
            await self._tell_methods(door, scope, noting(door.endpoint, scope, send))
        else:
            endpoint = metrics.NOWHERE if door is None else door.endpoint
            await send_answer(noting(endpoint, scope, send), closed(door, method, path), [])

    def _all_doors(self) -> Doors:
        generating = {
            path: Door(("POST",), partial(self._generate, api), api.endpoint, api.refused)
            for path, api in apis(self._shelf).items()
        }
        inquiring = {
            path: Door(("POST",), self._inquiries.door(inquiry), inquiry.endpoint, inquiry.refused)
            for path, inquiry in inquiries_of(self._config, self._hops).items()
        }
        kept = KeptResponses(self._reception, self._shelf)
        return Doors({**generating, **inquiring, **self._reading.doors(), **kept.doors()})

    async def _tell_methods(self, door: Door, scope: Message, send: Send) -> None:
        allow = (b"allow", door.methods.encode())
        headers = self._cors.preflight(dict(scope["headers"]), door.methods)
        start = {"type": "http.response.start", "status": 204, "headers": [allow, *headers]}
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    async def _generate(self, api: Api[Any], scope: Message, receive: Receive, send: Send) -> None:
        visit = Visit(api.endpoint, dict(scope["headers"]), scope["extensions"][CLIENT])
        metrics.open_requests.inc()
        try:
            refusal = await self._serve(visit, api, receive, send)
            if refusal is not None:
                refused = api.refused(named(refusal, self._hops.fleet.pools, generates=True))
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
        tenant = self._reception.recognise(api.authorization(visit.asked))
        if isinstance(tenant, Unauthorized):
            return tenant
        read = await self._reception.read(visit, api.read, receive)
        if read is None:
            visit.status = CLIENT_LEFT
            return None
        ask = read if isinstance(read, Refusal) else api.ask(read, tenant)
        if not isinstance(ask, Ask):
            return ask
        wrong = misfit(ask.model, self._hops.fleet.pools, generates=True)
        if wrong is not None:
            return wrong
        with self._exchange(visit, ask, tenant) as exchange:
            return await exchange.begin() or await _respond(visit, exchange, send)

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
        try:
            with watched(visit):
                yield exchange
        finally:
            exchange.close()


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


class Admin:
    """The application that operators talk to, on an address of its own."""

    def __init__(self, edge: Edge, accounts: Accounts) -> None:
        self._edge = edge
        self._accounts = accounts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        noted = noting("ledgers", scope, send)
        if path == "/headway/ledgers":
            await send_body(noted, 200, events.accounts(self._accounts.latest()), [JSON])
        elif path.startswith("/headway/ledgers/"):
            await self._account(path.removeprefix("/headway/ledgers/"), noted)
        else:
            await self._edge(scope, receive, send)

    async def _account(self, wanted: str, send: Send) -> None:
        account = self._accounts.find(wanted)
        if account is None:
            missing = answer(UnknownPath("GET", f"/headway/ledgers/{wanted}"))
            await send_answer(send, missing, [])
        else:
            await send_body(send, 200, events.accounts(account), [JSON])
