"""What is lost in the very turn of the loop in which something else happens."""

import asyncio
import gc
import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from headway.scheduler.v1 import scheduler_pb2 as scheduler
from headway.worker.v1 import worker_pb2 as worker
from services.edge.apis.ask import Ask, chat_ask
from services.edge.conversation import Conversation, StreamClosed
from services.edge.exchange import Exchange
from services.edge.ledger import Ledger
from services.edge.pipe import Pipes
from services.edge.relay import Relay
from tests.edge.conftest import Stage
from tests.edge.scripted import MODEL


class Sink:
    """A request that is started again in the turn in which its pipe broke."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[worker.Delta | None] = asyncio.Queue()

    def carry(self, choice: int, text: str, token_ids: bytes) -> bool:
        return False

    def put(self, delta: worker.Delta | None, received_s: float) -> None:
        self.arrived.put_nowait(delta)


async def test_nothing_starts_on_a_pipe_that_just_broke(stage: Stage) -> None:
    stage.workers[0].fails_after = 0
    pipes = Pipes(idle_s=60)
    address = stage.scheduler.fleet[0].address
    request = worker.GenerateRequest(sampling=worker.Sampling(choices=1))

    class Again(Sink):
        def put(self, delta: worker.Delta | None, received_s: float) -> None:
            # As a placement does that came in this very turn.
            pipes.to(address).start(request, second)

    second = Sink()
    pipes.to(address).start(request, Again())
    async with asyncio.timeout(5):
        await second.arrived.get()
    await pipes.close()


async def test_a_resumed_request_reports_no_ttft_of_another_attempt(stage: Stage) -> None:
    stage.workers[0].fails_after = 5
    await stage.chat()
    await stage.scheduler.until(lambda scheduler: len(scheduler.finished) == 2)
    assert all(report.actual_ttft_ms > 0 for report in stage.scheduler.finished)


async def _begun(stage: Stage, unread_limit: int = 10) -> tuple[Exchange, Relay]:
    """A request whose worker says nothing by itself."""
    stage.workers[0].hangs_after = 0
    messages = [{"role": "user", "content": "hi"}]
    ask = chat_ask(json.dumps({"model": MODEL, "messages": messages}).encode())
    assert isinstance(ask, Ask)
    exchange = Exchange(stage.edge._hops, ask, "r1", "", Ledger(0.0), "", unread_limit)
    assert await exchange.begin() is None
    return exchange, exchange._relays[0]


async def test_a_pipe_that_breaks_after_the_last_delta_takes_nothing_with_it(stage: Stage) -> None:
    exchange, relay = await _begun(stage)
    finish = worker.Finish(reason=worker.FINISH_REASON_STOP, completion_tokens=1)
    relay.put(worker.Delta(text="a", token_ids=[1], finish=finish), 1.0)
    relay.put(None, 2.0)  # before anybody read the finish: the client reads slowly
    deltas, refusal = await exchange.advance()
    assert ([delta.text for _, delta in deltas], refusal) == (["a"], None)
    assert (relay.resumes, exchange.running) == (0, False)


async def test_a_worker_that_fails_a_request_and_then_dies_loses_it_once(stage: Stage) -> None:
    stage.workers[0].fails_after = 0
    stage.workers[0].failure = worker.Failed(reason=worker.FAILURE_REASON_UNAVAILABLE)
    pipes, sink = Pipes(idle_s=60), Sink()
    request = worker.GenerateRequest(sampling=worker.Sampling(choices=1))
    pipes.to(stage.scheduler.fleet[0].address).start(request, sink)
    failed = await sink.arrived.get()
    assert failed is not None
    await pipes.close()
    assert sink.arrived.empty()


async def test_a_stream_that_nobody_reads_frees_its_worker_while_it_is_stuck(stage: Stage) -> None:
    _, relay = await _begun(stage, unread_limit=1)
    for text in "ab":  # the exchange takes neither: it waits for the client's socket
        relay.put(worker.Delta(text=text), 1.0)
    async with asyncio.timeout(5):
        await stage.workers[0].until(lambda worker: worker.aborted)
        await stage.scheduler.until(lambda scheduler: scheduler.finished)
    assert stage.scheduler.finished[0].outcome == scheduler.FINISH_OUTCOME_CANCELLED


async def test_a_stream_that_breaks_under_a_write_is_no_traceback_in_the_log() -> None:
    class Breaking:
        """A call whose writer sees it break before its reader does."""

        async def wait_for_connection(self) -> None:
            await asyncio.sleep(0)
            raise StreamClosed

        async def read(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise StreamClosed  # as gRPC does: the call's status, not the cancellation

        def cancel(self) -> None:
            pass

    terms: Any = SimpleNamespace(open=Breaking, lost=lambda: None)
    conversation: Conversation[Any, Any, Any] = Conversation(terms, acknowledged=False)
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: unheard.append(said))
    with suppress(StreamClosed):
        await conversation.converse()
    gc.collect()
    assert unheard == []
