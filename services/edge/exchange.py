"""One generating HTTP request: its relays, and what comes of them together.

Once its first content has left, plain deltas go past the exchange's task: relay.py has that hot
path. The task wakes for what begins or ends a choice, and for whatever could not be sent at once.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any

from headway.worker.v1 import worker_pb2 as pb
from services.edge.apis import logprobs
from services.edge.apis.ask import Ask
from services.edge.apis.logprobs import Awaiting, Entry
from services.edge.apis.refusals import Broken, Refusal
from services.edge.apis.writing import CallDelta, Head, New, Stop, Usage, Writer
from services.edge.inbox import Inbox, Lane
from services.edge.ledger import Ledger
from services.edge.relay import Hops, Order, Relay

Deltas = list[tuple[Relay, pb.Delta]]

REASONS = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


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
        self.writer: Writer | None = None  # once the status has left, and with it the way to refuse
        self.finish_reasons: list[str] = []  # of the choices that ended, as they did
        alternatives = ask.alternatives
        self.head = Head(
            request_id=request_id,
            created=int(time.time()),
            model=ask.model,
            service_tier=ask.served_tier,
            alternatives=alternatives or 0,
        )
        self._tells_logprobs = alternatives is not None
        self._awaiting: dict[int, Awaiting] = {}  # by choice; empty without log-probabilities
        self._begun: set[int] = set()  # choices whose prompt was echoed
        self._inbox: Inbox[Relay] = Inbox(unread_limit)
        self._starting: dict[int, asyncio.Task[Refusal | None]] = {}  # by first choice
        sampling, parsing = ask.sampling(), ask.parsing()
        self._relays = []
        served = hops.fleet.served(ask.model)
        for position, encode in enumerate(ask.encodes(served, traceparent)):
            order = Order(
                f"{request_id}-{position}" if position else request_id,
                encode,
                sampling,
                tenant,
                ask.priority,
                ask.body.cache_salt or "",
                traceparent,
                ask.constrained_by,
                parsing,
            )
            # The account is the first prompt's: its first token is the first content.
            account = ledger if position == 0 else Ledger(ledger.received_s)
            relay = Relay(hops, order, self._inbox, account, position * ask.choices)
            relay.echo = ask.prompts[position] if ask.echo else None
            self._relays.append(relay)

    async def begin(self) -> Refusal | None:
        """Encode every prompt, then start them all. A refusal means that nothing runs."""
        if len(self._relays) == 1:  # nearly always; gathering costs a task
            relay = self._relays[0]
            refusal = await relay.prepare() or await relay.start()
        else:
            refusals = await asyncio.gather(*(relay.prepare() for relay in self._relays))
            refusal = next((each for each in refusals if each is not None), None)
            if refusal is None:
                for relay in self._relays:
                    self._start_aside(relay, relay.start())
        self.ask.forget_prompts()
        return refusal

    def _start_aside(self, relay: Relay, start: Coroutine[Any, Any, Refusal | None]) -> None:
        """Start one of several while the others are read: it may wait for room that they hold."""
        starting = self._starting[relay.first_choice] = asyncio.create_task(start)
        starting.add_done_callback(partial(self._started, relay))

    def _started(self, relay: Relay, starting: asyncio.Task[Refusal | None]) -> None:
        """Wake the exchange for a start that came to nothing."""
        if not starting.cancelled() and (starting.exception() or starting.result()):
            self._inbox.put((relay, None, time.monotonic()))

    async def advance(self) -> tuple[Deltas, Refusal | None]:
        """The next deltas, and what ends the exchange after them, if anything does."""
        deltas: Deltas = []
        for relay, delta, received_s in await self._inbox.take():
            if not relay.open_choices:
                continue  # its pipe broke after its last delta
            if delta is None or delta.HasField("failed"):
                refusal = await self._go_on(relay, None if delta is None else delta.failed)
                if refusal is not None:
                    return deltas, refusal
                continue
            relay.take(delta, received_s)
            if delta.HasField("finish"):
                if delta.finish.reason not in REASONS:
                    return deltas, Broken("The request was aborted by an operator.")
                self.finish_reasons.append(REASONS[delta.finish.reason])
            deltas.append((relay, delta))
        if self._inbox.overflowed:
            return deltas, Broken("The stream was read too slowly.")
        return deltas, None

    async def _go_on(self, relay: Relay, failed: pb.Failed | None) -> Refusal | None:
        """Go on elsewhere after a prompt's worker failed, or end with why it never started."""
        starting = self._starting.get(relay.first_choice)
        refusal = None if starting is None else starting.result()
        refusal = refusal or relay.lose(failed)
        if refusal is not None or len(self._relays) == 1:
            return refusal or await relay.restart(failed)
        self._start_aside(relay, relay.restart(failed))
        return None

    def news(self, deltas: Deltas) -> Iterator[New]:
        """What these deltas bring to the answer's choices."""
        for relay, delta in deltas:
            choice = relay.first_choice + delta.choice
            reason, stop = ("", None) if not delta.HasField("finish") else _ended(delta.finish)
            if relay.echo is not None:
                yield from self._echoed(relay, choice, delta, reason, stop)
            else:
                entries = self._entries(choice, delta, 0)
                new = New(choice, delta.text, entries, reason, stop)
                yield _with_what_is_apart(new, delta)

    def _echoed(
        self, relay: Relay, choice: int, delta: pb.Delta, reason: str, stop: Stop
    ) -> Iterator[New]:
        if choice not in self._begun:
            self._begun.add(choice)
            told = logprobs.prompt_entries(relay.prompt_logprobs, self.head.alternatives)
            yield New(choice, relay.echo_text, told if self._tells_logprobs else None)
        if not self.ask.only_echo:
            entries = self._entries(choice, delta, len(relay.echo_text))
            yield New(choice, delta.text, entries, reason, stop)
        elif reason:
            yield New(choice, "", None, "length")

    def _entries(self, choice: int, delta: pb.Delta, start: int) -> list[Entry] | None:
        if not self._tells_logprobs:
            return None
        return self._awaiting.setdefault(choice, Awaiting(start)).take(delta)

    def prompt_logprobs(self, choice: int) -> list[dict[str, Any] | None] | None:
        """vLLM's `prompt_logprobs` of a choice, where they were asked for."""
        wanted = self.ask.body.prompt_logprobs
        if wanted is None:
            return None
        return logprobs.prompt(self._relays[choice // self.ask.choices].prompt_logprobs, wanted)

    @property
    def choices(self) -> int:
        """Choices of all prompts."""
        return len(self._relays) * self.ask.choices

    def sent(self, deltas: Deltas, lane: Lane | None) -> None:
        """Close the account with the first content, and open the lane for what follows."""
        if self.ledger.total_s is None:
            self._account_for_content(deltas)
        if self.ledger.total_s is not None:
            self._inbox.lane = lane

    def _account_for_content(self, deltas: Deltas) -> None:
        """Close the account with the first content; for a body, that is its first token."""
        first_s = self._relays[0].first_s
        has_content = any(map(_has_content, deltas))
        if first_s is None or not has_content:
            return
        now_s = time.monotonic()
        self.ledger.charge("edge_emit", now_s - first_s)
        self.ledger.close(now_s)

    def close(self) -> None:
        """Give back whatever still runs."""
        for starting in self._starting.values():
            starting.cancel()
        for relay in self._relays:
            relay.close()

    @property
    def running(self) -> bool:
        """Whether a choice is still open."""
        return any(relay.open_choices for relay in self._relays)

    @property
    def usage(self) -> Usage:
        """Tokens so far; of choices that did not end, what arrived."""
        relays = self._relays
        return Usage(
            sum(relay.encoded.prompt_tokens for relay in relays if relay.encoded is not None),
            0 if self.ask.only_echo else sum(map(_completion_tokens, relays)),
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


def _has_content(arrived: tuple[Relay, pb.Delta]) -> bool:
    _, delta = arrived
    return bool(delta.text or delta.reasoning or delta.tool_calls or delta.HasField("finish"))


def _ended(finish: pb.Finish) -> tuple[str, Stop]:
    """Why a choice ended, in chat's words, and at what of the caller's."""
    reason = REASONS[finish.reason]
    if finish.HasField("stop_token_id"):
        return reason, finish.stop_token_id
    return reason, finish.stop_text or None


def _with_what_is_apart(new: New, delta: pb.Delta) -> New:
    """What a delta brings beside text. Read: what stays of it holds its whole frame in memory."""
    if not delta.reasoning and not delta.tool_calls:
        return new
    told = delta.tool_calls
    calls = [CallDelta(each.index, each.id, each.name, each.arguments) for each in told]
    return new._replace(reasoning=delta.reasoning, calls=calls)


def _completion_tokens(relay: Relay) -> int:
    return relay.generated_tokens if relay.open_choices else relay.completion_tokens
