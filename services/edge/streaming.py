"""An answer that is streamed: its events, written as its exchange brings what they tell."""

from services.edge import events
from services.edge.client import Client
from services.edge.exchange import Deltas, Exchange
from services.edge.http import Headers, Send
from services.edge.refusals import Refusal, answer

STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would gather events otherwise
)


class Stream:
    """The events of one answer."""

    def __init__(
        self, exchange: Exchange, send: Send, client: Client, explain_as: str | None
    ) -> None:
        ask = exchange.ask
        self._exchange = exchange
        self._send = send
        self._client = client
        self._explain_as = explain_as
        self._writer = events.Events(
            exchange.head,
            with_usage=ask.include_usage,
            alternatives=ask.alternatives or 0,
            usage_so_far=(lambda: exchange.usage) if ask.usage_in_each else None,
        )
        # The lane counts nothing, so no event of it could tell a usage.
        has_lane = client.takes_chunks and not ask.usage_in_each
        self._lane = self._writer.lane(client.write) if has_lane else None

    async def run(self, headers: Headers) -> Refusal | None:
        """Send everything. A refusal that is returned came before the first byte was sent."""
        deltas, refusal = await self._first_deltas()
        if not deltas and refusal is not None:
            return refusal
        text, ends = self._render(deltas)
        await self._begin(headers, text)
        await self._continue(deltas, refusal, text, ends)
        return None

    async def _first_deltas(self) -> tuple[Deltas, Refusal | None]:
        # The status is sent only when a worker has answered: until then a refusal has its own.
        while True:
            deltas, refusal = await self._exchange.advance()
            if deltas or refusal is not None:
                return deltas, refusal

    async def _begin(self, headers: Headers, text: bytes) -> None:
        if text:
            self._client.hold_head()
        start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [*STREAM_HEADERS, *headers],
        }
        await self._send(start)
        self._exchange.is_streaming = True

    async def _continue(
        self, deltas: Deltas, refusal: Refusal | None, text: bytes, ends: list[tuple[int, str]]
    ) -> None:
        exchange = self._exchange
        while refusal is None and exchange.running:
            text += b"".join(self._writer.finish(*end, None) for end in ends)
            if text:
                await self._send_part(text)
                exchange.sent(deltas, self._lane)
            deltas.clear()  # while it waits: one delta holds all of its frame in memory
            deltas, refusal = await exchange.advance()
            text, ends = self._render(deltas)
        if text and exchange.ledger.total_s is None:
            await self._send_part(text)
            exchange.sent(deltas, None)
            text = b""
        last = self._last(ends) if refusal is None else events.error(answer(refusal).body)
        await self._send({"type": "http.response.body", "body": text + last + events.DONE})

    async def _send_part(self, text: bytes) -> None:
        await self._send({"type": "http.response.body", "body": text, "more_body": True})

    def _render(self, deltas: Deltas) -> tuple[bytes, list[tuple[int, str]]]:
        """The events of these deltas, and the choices that they end."""
        out = []
        ends = []
        for new in self._exchange.news(deltas):
            out.append(self._writer.new(new))
            if new.finish_reason:
                ends.append((new.choice, new.finish_reason))
        return b"".join(out), ends

    def _last(self, ends: list[tuple[int, str]]) -> bytes:
        writer, exchange = self._writer, self._exchange
        explain = None if self._explain_as is None else exchange.explain(self._explain_as)
        if exchange.ask.include_usage:
            finishes = [writer.finish(*end, None) for end in ends]
            return b"".join((*finishes, writer.usage(exchange.usage, explain)))
        *others, last = ends
        finishes = [writer.finish(*end, None) for end in others]
        return b"".join((*finishes, writer.finish(*last, explain)))
