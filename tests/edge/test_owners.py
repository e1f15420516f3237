"""A stream's owner that dies ends the edge, which says why."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest

from observability.telemetry import start_logs
from services.edge.owners import OwnerDied, owned
from tests.edge.conftest import staged


async def _lives() -> None:
    await asyncio.Event().wait()


async def _dies() -> None:
    raise ValueError("an answer of another length")


async def _returns() -> None:
    pass


@pytest.mark.parametrize(
    ("owner", "why"),
    [
        pytest.param(_dies, "an answer of another length", id="raises"),
        pytest.param(_returns, "None", id="returns"),
    ],
)
async def test_the_block_ends_carefully_and_the_reason_is_said(
    owner: Any, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended_carefully = False

    async def serve() -> None:
        nonlocal ended_carefully
        async with owned([("the fleet", owner()), ("another", _lives())], start_logs("edge")):
            try:
                await _lives()
            finally:
                await asyncio.sleep(0)  # as a drain does
                ended_carefully = True

    with pytest.raises(OwnerDied, match=f"the fleet ended by itself: .*{why}"):
        await serve()
    assert ended_carefully
    said = json.loads(capsys.readouterr().err)
    assert said["owner"] == "the fleet"
    assert why in said.get("exception", "None")


async def test_at_the_end_of_the_block_they_end() -> None:
    ended = asyncio.Event()

    async def owner() -> None:
        try:
            await _lives()
        finally:
            ended.set()
            raise ConnectionError  # what a stream's end may bring is nobody's concern now

    async with owned([("the fleet", owner())], start_logs("edge")):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_what_the_block_raises_goes_on() -> None:
    async def serve() -> None:
        async with owned([("the fleet", _lives())], start_logs("edge")):
            raise KeyError

    with pytest.raises(KeyError):
        await serve()


async def test_an_answer_that_breaks_the_contract_ends_the_edge_and_hangs_nobody() -> None:
    async def serve() -> None:
        async with staged() as stage:
            for tokenizer in stage.tokenizers:
                tokenizer.forgets = True
            with suppress(asyncio.CancelledError):
                await stage.chat()

    async with asyncio.timeout(10):
        with pytest.raises(OwnerDied, match=r"a tokenizer's stream ended by itself: ValueError"):
            await serve()
