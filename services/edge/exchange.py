"""One generating HTTP request: its relays, and the answer that they make together.

Once its first content has left, plain deltas go past the exchange's task: relay.py has that hot
path. The task wakes for what begins or ends a choice, and for whatever could not be sent at once.
"""

import asyncio
import time
from typing import Any

from headway.worker.v1 import worker_pb2 as pb
from services.edge import events
from services.edge.ask import Ask
from services.edge.client import Client
from services.edge.http import Send
from services.edge.inbox import Inbox, Lane
from services.edge.ledger import Ledger
from services.edge.refusals import Broken, Refusal, answer
from services.edge.relay import Hops, Order, Relay

Deltas = list[tuple[int, pb.Delta]]  # with the choice's index in the answer

REASONS = {pb.FINISH_REASON_STOP: "stop", pb.FINISH_REASON_LENGTH: "length"}
STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would gather events otherwise
)


class Exchange:
    """What becomes of one request, from `begin` to `close`."""

    def __init__(
        self,
        hops: Hops,
        ask: Ask,
        request_id: str,
        tenant: str,
        ledger: Ledger,
        traceparent: str,
        unread_limit: int,
    ) -> None:
        self.ask = ask
        self.request_id = request_id
        self.ledger = ledger
        self.is_streaming = False  # the status has left, and with it the way to refuse
        self._created = int(time.time())
        self.finish_reasons: list[str] = []  # of the choices that ended, as they did
        self._inbox: Inbox[Relay] = Inbox(unread_limit)
        sampling = ask.sampling()
        self._relays = []
        served = hops.fleet.served(ask.model)
        for position, encode in enumerate(ask.encodes(served, traceparent)):
            order = Order(
                f"{request_id}-{position}" if position else request_id,
                encode,
                sampling,
                tenant,
                ask.body.priority or 0,
                ask.body.cache_salt or "",
                traceparent,
            )
            # The account is the first prompt's: its first token is the first content.
            account = ledger if position == 0 else Ledger(ledger.received_s)
            relay = Relay(hops, order, self._inbox, account, position * ask.choices)
            self._relays.append(relay)

    async def begin(self) -> Refusal | None:
        """Start every prompt, and wait until one answers. A refusal has no stream yet."""
        if len(self._relays) == 1:  # nearly always; gathering costs a task
            refusal = await self._relays[0].begin()
        else:
            refusals = await asyncio.gather(*(relay.begin() for relay in self._relays))
            refusal = next((each for each in refusals if each is not None), None)
        self.ask.forget_prompts()
        return refusal

    async def advance(self) -> tuple[Deltas, Refusal | None]:
        """The next deltas, and what ends the exchange after them, if anything does."""
        deltas: Deltas = []
        for relay, delta, received_s in await self._inbox.take():
            if not relay.open_choices:
                continue  # its pipe broke after its last delta
            if delta is None or delta.HasField("failed"):
                refusal = await relay.resume(None if delta is None else delta.failed)
                if refusal is not None:
                    return deltas, refusal
                continue
            relay.take(delta, received_s)
            if delta.HasField("finish"):
                if delta.finish.reason not in REASONS:
                    return deltas, Broken("The request was aborted by an operator.")
                self.finish_reasons.append(REASONS[delta.finish.reason])
            deltas.append((relay.first_choice + delta.choice, delta))
        if self._inbox.overflowed:
            return deltas, Broken("The stream was read too slowly.")
        return deltas, None

    def close(self) -> None:
        """Give back whatever still runs."""
        for relay in self._relays:
            relay.close()

    @property
    def running(self) -> bool:
        """Whether a choice is still open."""
        return any(relay.open_choices for relay in self._relays)

    @property
    def usage(self) -> events.Usage:
        """Tokens so far; of choices that did not end, what arrived."""
        relays = self._relays
        return events.Usage(
            sum(relay.encoded.prompt_tokens for relay in relays if relay.encoded is not None),
            sum(
                relay.generated_tokens if relay.open_choices else relay.completion_tokens
                for relay in relays
            ),
            sum(relay.cached_tokens for relay in relays),
        )

    @property
    def resumes(self) -> int:
        """How often a prompt went to another worker."""
        return sum(relay.resumes for relay in self._relays)

    def explain(self, trace_id: str) -> dict[str, Any]:
        """What `X-Headway-Explain` asks for; of several prompts, the first one's way."""
        return {
            "request_id": self.request_id,
            "trace_id": trace_id,
            "ttft_ms": self.ledger.in_ms(),
            **self._relays[0].explain(),
        }

    async def collect(self, explain_as: str | None) -> bytes | Refusal:
        """The body of an answer that is not streamed; `explain_as` is the trace id."""
        count = len(self._relays) * self.ask.choices
        texts: list[list[str]] = [[] for _ in range(count)]
        reasons = [""] * count

        def gather(choice: int, text: str) -> bool:
            texts[choice].append(text)
            return True

        while self.running:
            refusal = await self._collect_more(texts, reasons, gather)
            if refusal is not None:
                return refusal
        return events.body(
            self.ask.form,
            self.request_id,
            self._created,
            self.ask.model,
            [
                events.Choice("".join(text), reason)
                for text, reason in zip(texts, reasons, strict=True)
            ],
            self.usage,
            None if explain_as is None else self.explain(explain_as),
        )

    async def _collect_more(
        self, texts: list[list[str]], reasons: list[str], lane: Lane
    ) -> Refusal | None:
        """Take in what comes next, and keep no delta: one holds all of its frame in memory."""
        deltas, refusal = await self.advance()
        if refusal is not None:
            return refusal
        for choice, delta in deltas:
            texts[choice].append(delta.text)
            if delta.HasField("finish"):
                reasons[choice] = REASONS[delta.finish.reason]
        self._sent(deltas, lane)
        return None

    async def stream(
        self,
        send: Send,
        client: Client,
        headers: list[tuple[bytes, bytes]],
        explain_as: str | None,
    ) -> Refusal | None:
        """Send the events. A refusal that is returned came before the first byte was sent."""
        deltas, refusal = await self._first_deltas()
        if not deltas and refusal is not None:
            return refusal
        writer = events.Events(
            self.ask.form,
            self.request_id,
            self._created,
            self.ask.model,
            with_usage=self.ask.include_usage,
        )
        text, ends = _render(writer, deltas)
        if text:
            client.hold_head()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*STREAM_HEADERS, *headers],
            }
        )
        self.is_streaming = True
        lane = writer.lane(client.write) if client.takes_chunks else None
        while refusal is None and self.running:
            text += b"".join(writer.finish(*end, None) for end in ends)
            if text:
                await send({"type": "http.response.body", "body": text, "more_body": True})
                self._sent(deltas, lane)
            deltas.clear()  # while it waits: one delta holds all of its frame in memory
            deltas, refusal = await self.advance()
            text, ends = _render(writer, deltas)
        if text and self.ledger.total_s is None:
            await send({"type": "http.response.body", "body": text, "more_body": True})
            self._sent(deltas, None)
            text = b""
        if refusal is not None:
            last = events.error(answer(refusal).body)
        else:
            last = self._last(writer, ends, explain_as)
        await send({"type": "http.response.body", "body": text + last + events.DONE})
        return None

    async def _first_deltas(self) -> tuple[Deltas, Refusal | None]:
        # The status is sent only when a worker has answered: until then a refusal has its own.
        while True:
            deltas, refusal = await self.advance()
            if deltas or refusal is not None:
                return deltas, refusal

    def _last(
        self, writer: events.Events, ends: list[tuple[int, str]], explain_as: str | None
    ) -> bytes:
        explain = None if explain_as is None else self.explain(explain_as)
        if self.ask.include_usage:
            finishes = [writer.finish(*end, None) for end in ends]
            return b"".join((*finishes, writer.usage(self.usage, explain)))
        *others, last = ends
        finishes = [writer.finish(*end, None) for end in others]
        return b"".join((*finishes, writer.finish(*last, explain)))

    def _sent(self, deltas: Deltas, lane: Lane | None) -> None:
        """Close the account with the first content, and open the lane for what follows."""
        if self.ledger.total_s is None:
            self._account_for_content(deltas)
        if self.ledger.total_s is not None:
            self._inbox.lane = lane

    def _account_for_content(self, deltas: Deltas) -> None:
        """Close the account with the first content; for a body, that is its first token."""
        first_s = self._relays[0].first_s
        has_content = any(delta.text or delta.HasField("finish") for _, delta in deltas)
        if first_s is None or not has_content:
            return
        now_s = time.monotonic()
        self.ledger.charge("edge_emit", now_s - first_s)
        self.ledger.close(now_s)


def _render(writer: events.Events, deltas: Deltas) -> tuple[bytes, list[tuple[int, str]]]:
    """The text events of these deltas, and the choices that they end."""
    out = []
    ends = []
    for choice, delta in deltas:
        if not writer.is_open(choice):
            out.append(writer.open(choice))
        if delta.text:
            out.append(writer.text(choice, delta.text))
        if delta.HasField("finish"):
            ends.append((choice, REASONS[delta.finish.reason]))
    return b"".join(out), ends
