"""An answer that is not streamed: gathered from its exchange, written once."""

from dataclasses import dataclass, field, replace

from services.edge.apis.logprobs import Entry
from services.edge.apis.refusals import Refusal
from services.edge.apis.writing import CallDelta, Choice, Closing, Stop
from services.edge.exchange import Exchange


@dataclass(slots=True)
class _Choice:
    """One choice as far as it came."""

    texts: list[str] = field(default_factory=list)
    entries: list[Entry] | None = None
    finish_reason: str = ""
    stop: Stop = None
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[CallDelta, list[str]]] = field(default_factory=list)  # with its arguments

    def call(self, delta: CallDelta) -> None:
        """Take in more of a call: those that go on are the ones that began."""
        if delta.index == len(self.calls):
            self.calls.append((delta, []))
        self.calls[delta.index][1].append(delta.arguments)


class Collector:
    """The choices of one answer."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._choices = [_Choice() for _ in range(exchange.choices)]

    async def collect(self, explain_as: str | None) -> bytes | Refusal:
        """The body; `explain_as` is the trace id to explain the request under."""
        exchange = self._exchange
        while exchange.running:
            refusal = await self._collect_more()
            if refusal is not None:
                return refusal
        explain = None if explain_as is None else exchange.explain(explain_as)
        return exchange.ask.form.body(
            exchange.head,
            [self._finished(place, each) for place, each in enumerate(self._choices)],
            Closing(exchange.usage, explain),
        )

    async def _collect_more(self) -> Refusal | None:
        """Take in what comes next, and keep no delta: one holds all of its frame in memory."""
        deltas, refusal = await self._exchange.advance()
        if refusal is not None:
            return refusal
        for new in self._exchange.news(deltas):
            choice = self._choices[new.choice]
            choice.texts.append(new.text)
            if new.reasoning:
                choice.reasoning.append(new.reasoning)
            for call in new.calls:
                choice.call(call)
            if new.entries is not None:
                choice.entries = [*(choice.entries or ()), *new.entries]
            if new.finish_reason:
                choice.finish_reason, choice.stop = new.finish_reason, new.stop
        self._exchange.sent(deltas, self._carry)
        return None

    def _carry(self, choice: int, text: str) -> bool:
        """The lane for plain text; relay.py says what it may do."""
        self._choices[choice].texts.append(text)
        return True

    def _finished(self, place: int, choice: _Choice) -> Choice:
        return Choice(
            "".join(choice.texts),
            choice.finish_reason,
            choice.entries,
            self._exchange.prompt_logprobs(place),
            "".join(choice.reasoning),
            [replace(call, arguments="".join(parts)) for call, parts in choice.calls],
            choice.stop,
        )
