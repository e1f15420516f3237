"""An answer that is streamed: its events, written as its exchange brings what they tell."""

from services.edge.apis.refusals import Refusal
from services.edge.apis.writing import Closing, Extras, New
from services.edge.client import Client
from services.edge.exchange import Deltas, Exchange
from services.edge.http import Headers, Send

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
        self._exchange = exchange
        self._send = send
        self._client = client
        self._explain_as = explain_as
        ask = exchange.ask
        usage_so_far = (lambda: exchange.usage) if ask.usage_in_each else None
        extras = Extras(ask.include_usage, usage_so_far)
        self._writer = ask.form.writer(exchange.head, extras)
        self._lane = self._writer.lane(client.write) if client.takes_chunks else None

    async def run(self, headers: Headers) -> Refusal | None:
        """Send everything. A refusal that is returned came before the first byte was sent."""
        deltas, refusal = await self._first_deltas()
        if not deltas and refusal is not None:
            return refusal
        opening = self._writer.begin(self._exchange.usage)
        text, ends = self._render(deltas)
        text = opening + text
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
        self._exchange.writer = self._writer

    async def _continue(
        self, deltas: Deltas, refusal: Refusal | None, text: bytes, ends: list[New]
    ) -> None:
        exchange = self._exchange
        while refusal is None and exchange.running:
            if ends:
                text += self._writer.ends(ends, None)
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
        last = self._last(ends) if refusal is None else self._writer.broken(refusal)
        await self._send({"type": "http.response.body", "body": text + last})

    async def _send_part(self, text: bytes) -> None:
        await self._send({"type": "http.response.body", "body": text, "more_body": True})

    def _render(self, deltas: Deltas) -> tuple[bytes, list[New]]:
        """The events of these deltas, and what ends choices."""
        out = []
        ends = []
        for new in self._exchange.news(deltas):
            out.append(self._writer.new(new))
            if new.finish_reason:
                ends.append(new)
        return b"".join(out), ends

    def _last(self, ends: list[New]) -> bytes:
        exchange = self._exchange
        explain = None if self._explain_as is None else exchange.explain(self._explain_as)
        return self._writer.ends(ends, Closing(exchange.usage, explain))
