"""What an open stream does not keep."""

import asyncio
import sys
from contextlib import suppress

import pytest

from headway.worker.v1 import worker_pb2 as worker
from services.edge.apis.ask import Ask
from services.edge.exchange import Exchange
from services.edge.inbox import Inbox
from tests.edge.conftest import Stage
from tests.edge.scripted import MODEL

UNREFERENCED = 2  # by the test's own list, and by the call that counts


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_no_delta_is_held_while_the_next_is_awaited(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    seen: list[worker.Delta] = []
    put = Inbox.put

    def noted(inbox: Inbox[object], arrival: tuple[object, worker.Delta | None, float]) -> bool:
        assert arrival[1] is not None
        seen.append(arrival[1])
        return put(inbox, arrival)

    monkeypatch.setattr(Inbox, "put", noted)
    stage.workers[0].hangs_after = 1
    asking = asyncio.create_task(stage.chat(stream=stream))
    async with asyncio.timeout(5):
        while not seen or sys.getrefcount(seen[0]) > UNREFERENCED:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("door", ["chat/completions", "completions", "messages", "responses"])
async def test_the_prompts_text_is_not_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    asks: list[Ask] = []
    begin = Exchange.begin

    async def noted(exchange: Exchange) -> object:
        begun = await begin(exchange)
        asks.append(exchange.ask)
        orders = [relay.order.encode.ByteSize() for relay in exchange._relays]
        assert max(orders) < 20
        return begun

    monkeypatch.setattr(Exchange, "begin", noted)
    text = "x" * 100
    said = [{"role": "user", "content": text}]
    prompts: dict[str, dict[str, object]] = {
        "chat/completions": {"messages": said},
        "completions": {"prompt": text},
        "messages": {"messages": said, "max_tokens": 9},
        "responses": {"input": said, "store": False},
    }
    body = {"model": MODEL, **prompts[door]}
    assert (await stage.client.post(f"/v1/{door}", json=body)).status_code == 200
    [ask] = asks
    assert text not in repr(ask)
