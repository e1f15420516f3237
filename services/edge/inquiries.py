"""Serves what is answered whole and generates nothing; server.py serves what generates."""

import asyncio
from functools import partial
from typing import Any

from services.edge import metrics
from services.edge.apis.refusals import Refusal, Unauthorized, Unavailable
from services.edge.client import CLIENT
from services.edge.doors import Enter
from services.edge.fitting import named
from services.edge.fleet import Fleet
from services.edge.http import JSON, Message, Receive, Send, send_answer, send_body
from services.edge.inquiry import Caller, Inquiry, Reply
from services.edge.reception import Reception
from services.edge.visits import CLIENT_LEFT, Inquired, Visits, watched


class Inquiries:
    """Lets inquiries in, has them answered, and writes them down."""

    def __init__(self, reception: Reception, visits: Visits, fleet: Fleet) -> None:
        self._reception = reception
        self._visits = visits
        self._fleet = fleet

    def door(self, inquiry: Inquiry[Any]) -> Enter:
        """What serves one kind."""
        return partial(self._serve, inquiry)

    async def _serve(
        self, inquiry: Inquiry[Any], scope: Message, receive: Receive, send: Send
    ) -> None:
        visit = Inquired(inquiry.endpoint, dict(scope["headers"]), scope["extensions"][CLIENT])
        metrics.open_requests.inc()
        try:
            reply = await self._reply(inquiry, visit, receive)
            if reply is not None:
                await self._send(inquiry, reply, visit, send)
        except asyncio.CancelledError:
            if visit.status != CLIENT_LEFT:
                closing = Unavailable("The edge is shutting down.")
                await self._send(inquiry, closing, visit, send)
        finally:
            metrics.open_requests.dec()
            self._visits.account_inquiry(visit)

    async def _reply(
        self, inquiry: Inquiry[Any], visit: Inquired, receive: Receive
    ) -> Reply | Refusal | None:
        tenant = self._reception.recognise(inquiry.authorization(visit.asked))
        if isinstance(tenant, Unauthorized):
            return tenant
        asked = await self._reception.read(visit, inquiry.parse, receive)
        if asked is None:
            visit.status = CLIENT_LEFT
            return None
        if isinstance(asked, Refusal):
            return asked
        self._visits.trace(visit, asked.model)
        visit.model = asked.model
        with watched(visit):
            caller = Caller(visit.request_id, tenant, visit.traceparent)
            return await inquiry.answer(asked, caller)

    async def _send(
        self, inquiry: Inquiry[Any], reply: Reply | Refusal, visit: Inquired, send: Send
    ) -> None:
        if isinstance(reply, Reply):
            visit.status, visit.prompt_tokens = 200, reply.prompt_tokens
            await send_body(send, 200, reply.body, [JSON, *visit.headers()])
            return
        told = named(reply, self._fleet.pools, generates=inquiry.generates)
        refused = inquiry.refused(told)
        visit.status = refused.status
        await send_answer(send, refused, visit.headers())
