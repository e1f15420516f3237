"""What is kept of each request for a model: metrics, its account, its span, its log line."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from opentelemetry.trace import Span, Status, StatusCode
from structlog.stdlib import BoundLogger

from observability.telemetry import Telemetry, read_trace_id, write_traceparent
from services.edge import metrics, request_ids
from services.edge.accounts import Accounts
from services.edge.client import Client
from services.edge.exchange import Exchange
from services.edge.http import Headers
from services.edge.ledger import Ledger

CLIENT_LEFT = 499  # nginx's number; it is in logs and metrics only, nobody is there to read it
ANTHROPICS = ("messages", "count_tokens")  # whose callers look for another header, too

# A label's child is looked up under a lock, and its text checked: once is enough. The labels are
# few: models that are served, and statuses.
_requests = cache(metrics.requests.labels)
_tokens = cache(metrics.tokens.labels)
_ttft = cache(metrics.ttft.labels)
_ttft_stage = cache(metrics.ttft_stage.labels)


@dataclass(slots=True)
class Visit:
    """One request for a model, from its first byte to its account."""

    endpoint: str
    asked: dict[bytes, bytes]  # the request's headers
    client: Client
    ledger: Ledger = field(default_factory=lambda: Ledger(time.monotonic()))
    started_ns: int = field(default_factory=time.time_ns)
    request_id: str = field(default_factory=request_ids.unique)
    trace_id: str = ""
    status: int = 500  # unless something is answered
    exchange: Exchange | None = None
    span: Span | None = None

    @property
    def traceparent(self) -> str:
        """What the inner services get: empty when the request is not sampled."""
        return "" if self.span is None else write_traceparent(self.span)

    @property
    def explain_as(self) -> str | None:
        """The trace id to explain the request under, when the client asked for that."""
        return self.trace_id if self.asked.get(b"x-headway-explain") == b"1" else None

    def headers(self) -> Headers:
        """The headers of every answer: the caller's own request id, or ours."""
        named = request_ids.header(self.asked, self.request_id)
        if self.endpoint in ANTHROPICS:
            return [named, (b"request-id", named[1])]
        return [named]


@contextmanager
def watched(visit: Visit) -> Iterator[None]:
    """End the serving task when the client leaves, and with it all that runs for it."""
    serving = asyncio.current_task()
    assert serving is not None, "a coroutine runs in a task"

    def leave() -> None:
        visit.status = CLIENT_LEFT
        serving.cancel()

    visit.client.watch(leave)
    try:
        yield
    finally:
        visit.client.unwatch()


@dataclass(slots=True)
class Inquired(Visit):
    """A request that generates nothing, from its first byte to its account."""

    model: str = ""
    prompt_tokens: int = 0


class Visits:
    """Opens and writes down the visits of one edge."""

    def __init__(self, telemetry: Telemetry, accounts: Accounts, log: BoundLogger) -> None:
        self._telemetry = telemetry
        self._accounts = accounts
        self._log = log

    def trace(self, visit: Visit, model: str) -> None:
        """Begin the trace, below the client's where it sent one."""
        caller = visit.asked.get(b"traceparent", b"").decode("latin-1")
        name = f"{visit.endpoint} {model}"
        visit.span = self._telemetry.start(name, caller, visit.started_ns)
        if visit.span is not None:
            visit.trace_id = f"{visit.span.get_span_context().trace_id:032x}"
        else:
            visit.trace_id = read_trace_id(caller) or request_ids.unique()

    def account(self, visit: Visit) -> None:
        """Write the visit down, once it is over."""
        _requests(visit.endpoint, visit.status).inc()
        exchange = visit.exchange
        if exchange is None:
            self._log.info(
                "refused",
                endpoint=visit.endpoint,
                request_id=visit.request_id,
                status=visit.status,
            )
            return
        usage = exchange.usage
        account = {
            **exchange.explain(visit.trace_id),
            "started_unix_ms": visit.started_ns // 1_000_000,
            "model": exchange.ask.model,
            "status": visit.status,
            "completion_tokens": usage.completion_tokens,
        }
        self._accounts.keep(account)
        _measure(exchange)
        if visit.span is not None:
            _describe(visit.span, visit.status, exchange)
            visit.span.end()
        self._log.info(
            "answered",
            endpoint=visit.endpoint,
            **{name: account[name] for name in LOGGED},
            ttft_ms=account["ttft_ms"]["total"],
        )

    def account_inquiry(self, visit: Inquired) -> None:
        """Write a request down that generated nothing, once it is over."""
        _requests(visit.endpoint, visit.status).inc()
        is_answered = visit.status == 200
        if is_answered:  # so the model is one that there is
            _tokens(visit.model, "prompt").inc(visit.prompt_tokens)
        if visit.span is not None:
            _describe_inquiry(visit.span, visit)
            visit.span.end()
        self._log.info(
            "answered" if is_answered else "refused",
            endpoint=visit.endpoint,
            request_id=visit.request_id,
            trace_id=visit.trace_id,
            status=visit.status,
            **({"model": visit.model} if is_answered else {}),
            prompt_tokens=visit.prompt_tokens,
        )


LOGGED = (
    "request_id",
    "trace_id",
    "status",
    "model",
    "worker",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "resumes",
)


def _measure(exchange: Exchange) -> None:
    usage, model = exchange.usage, exchange.ask.model
    for kind, count in (
        ("prompt", usage.prompt_tokens),
        ("cached", usage.cached_tokens),
        ("completion", usage.completion_tokens),
    ):
        _tokens(model, kind).inc(count)
    metrics.resumes.inc(exchange.resumes)
    if exchange.ledger.total_s is not None:
        _ttft(model).observe(exchange.ledger.total_s)
        for stage, seconds in exchange.ledger.stages.items():
            _ttft_stage(stage).observe(seconds)
        _ttft_stage("unattributed").observe(exchange.ledger.unattributed_s)


def _describe(span: Span, status: int, exchange: Exchange) -> None:
    usage, ttft_ms = exchange.usage, exchange.ledger.in_ms()
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": exchange.ask.form.operation,
        "gen_ai.request.model": exchange.ask.model,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "http.response.status_code": status,
        "headway.request_id": exchange.request_id,
        "headway.cached_tokens": usage.cached_tokens,
        "headway.resumes": exchange.resumes,
        "headway.ttft_ms": ttft_ms["total"],
        "headway.ttft.unattributed_ms": ttft_ms["unattributed"],
    }
    attributes |= exchange.ask.labels
    if exchange.finish_reasons:
        attributes["gen_ai.response.finish_reasons"] = exchange.finish_reasons
    for stage, spent_ms in ttft_ms["stages"].items():
        attributes[f"headway.ttft.{stage}_ms"] = spent_ms
    span.set_attributes(attributes)
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))


def _describe_inquiry(span: Span, visit: Inquired) -> None:
    span.set_attributes(
        {
            "gen_ai.operation.name": visit.endpoint,
            "gen_ai.request.model": visit.model,
            "gen_ai.usage.input_tokens": visit.prompt_tokens,
            "http.response.status_code": visit.status,
            "headway.request_id": visit.request_id,
        }
    )
    if visit.status >= 500:
        span.set_status(Status(StatusCode.ERROR))
