"""The fast lane: what goes past the request's task, in which order, and over which seam."""

import asyncio
import inspect
import socket

import pytest
from uvicorn.protocols.http import httptools_impl

from headway.worker.v1 import worker_pb2 as worker
from services.edge.inbox import Inbox
from services.edge.pipe import Pipe
from tests.edge.conftest import Stage, staged
from tests.edge.scripted import MODEL
from tests.edge.speaking import (
    message,
    message_events,
    message_of,
    respond,
    response_events,
    response_of,
)
from tests.edge.test_generating import STORY, events_of, text_of


async def _turn() -> None:
    await asyncio.sleep(0)


async def test_the_lane_is_open_only_while_the_reader_waits_and_nothing_is_ahead() -> None:
    inbox: Inbox[str] = Inbox(limit=2)
    inbox.lane = lane = lambda choice, text: True
    assert inbox.open_lane is None  # nobody waits
    taking = asyncio.create_task(inbox.take())
    await _turn()
    assert inbox.open_lane is lane
    inbox.put(("a", None, 0.0))
    assert inbox.open_lane is None  # what is put in goes first
    await taking
    assert inbox.open_lane is None  # its reader has not dealt with it yet
    again = asyncio.create_task(inbox.take())
    await _turn()
    assert inbox.open_lane is lane
    again.cancel()
    await _turn()
    assert inbox.open_lane is None  # nobody will wait again


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What went to the exchange's task, and not past it."""
    texts: list[str] = []
    put = Inbox.put

    def counted(inbox: Inbox[object], arrival: tuple[object, worker.Delta | None, float]) -> bool:
        delta = arrival[1]
        texts.append("" if delta is None else delta.text)
        return put(inbox, arrival)

    monkeypatch.setattr(Inbox, "put", counted)
    return texts


@pytest.fixture
def paced(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A worker's next frame leaves when the edge has dealt with the one before."""
    receive = Pipe.receive

    def step() -> None:
        for each in stage.workers:
            each.step.set()

    def received(pipe: Pipe, frame: worker.PipeResponse) -> bool:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, step)  # a turn after that in which the task woke
        return receive(pipe, frame)

    monkeypatch.setattr(Pipe, "receive", received)
    for each in stage.workers:
        each.paced = True
    step()
    return stage


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_only_the_first_and_the_last_delta_wake_the_task(
    paced: Stage, told: list[str], stream: bool
) -> None:
    response = await paced.chat(stream=stream)
    if stream:
        assert text_of(events_of(response.text)) == STORY
    else:
        assert response.json()["choices"][0]["message"]["content"] == STORY
    assert told == [STORY[0], STORY[-1]]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_so_it_is_with_responses(paced: Stage, told: list[str], stream: bool) -> None:
    answer = await respond(paced, stream=stream)
    body = response_events(answer)[-1]["response"] if stream else response_of(answer)
    assert body["output"][0]["content"][0]["text"] == STORY
    assert told == [STORY[0], STORY[-1]]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_so_it_is_with_messages(paced: Stage, told: list[str], stream: bool) -> None:
    answer = await message(paced, stream=stream)
    if stream:
        deltas = [event.get("delta", {}) for event in message_events(answer)]
        assert "".join(delta.get("text", "") for delta in deltas) == STORY
    else:
        assert message_of(answer)["content"][0]["text"] == STORY
    assert told == [STORY[0], STORY[-1]]


async def test_choices_keep_their_own_order(paced: Stage, told: list[str]) -> None:
    events = events_of((await paced.chat(stream=True, n=2)).text)
    for index in range(2):
        own = [e for e in events if e["choices"] and e["choices"][0]["index"] == index]
        assert own[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert text_of(own) == STORY
    assert told == [STORY[0]] * 2 + [STORY[-1]] * 2


async def test_what_went_past_the_task_is_kept_for_a_resume(paced: Stage, told: list[str]) -> None:
    paced.workers[0].fails_after = 5
    events = events_of((await paced.chat(stream=True, temperature=0)).text)
    assert text_of(events) == STORY
    assert paced.workers[1].asked[0].generated == _ids(STORY[:5])
    # The failure itself, and for each attempt the first delta; the last ends the choice.
    assert told == [STORY[0], "", STORY[5], STORY[-1]]


def _ids(text: str) -> bytes:
    return b"".join(ord(each).to_bytes(4, "little") for each in text)


async def test_a_reader_that_stops_ends_its_stream_and_frees_the_worker() -> None:
    async with staged(unread_limit=8) as stage:
        stage.workers[0].story, stage.workers[0].width = "x" * 150, 100_000
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        small.connect(("127.0.0.1", stage.port))
        reader, writer = await asyncio.open_connection(sock=small, limit=2**10)
        writer.write(_request("1.1"))
        await stage.workers[0].until(lambda worker: worker.aborted)
        text = (await reader.read()).decode()
        writer.close()
        assert "The stream was read too slowly." in text
        assert text.endswith("data: [DONE]\n\n\r\n0\r\n\r\n")


def _request(version: str) -> bytes:
    body = b'{"model":"%s","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    body %= MODEL.encode()
    head = b"POST /v1/chat/completions HTTP/%s\r\nhost: edge\r\nconnection: close\r\n"
    return head % version.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


async def _answer(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_each_event_is_a_chunk_of_its_own_and_the_body_is_whole(paced: Stage) -> None:
    head, _, rest = (await _answer(paced.port, _request("1.1"))).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
    assert text_of(events_of(body.decode())) == STORY


async def test_a_client_without_chunks_has_no_lane(paced: Stage, told: list[str]) -> None:
    answer = await _answer(paced.port, _request("1.0"))
    assert answer.count(b'"content":') == len(STORY) + 1
    assert "".join(told) == STORY


async def test_requests_in_a_row_on_one_connection_have_lanes_of_their_own(paced: Stage) -> None:
    request = _request("1.1")
    both = request.replace(b"connection: close\r\n", b"") + request
    answer = await _answer(paced.port, both)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"data: [DONE]") == 2
    assert answer.count(b'"content":"') == 2 * (len(STORY) + 1)


async def test_pipelined_requests_of_a_client_that_leaves_free_their_worker(stage: Stage) -> None:
    stage.workers[0].hangs_after = 3
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(_request("1.1").replace(b"connection: close\r\n", b"") * 2)
    await reader.readuntil(b"data: ")
    writer.close()
    await stage.workers[0].until(lambda worker: worker.aborted)


async def test_a_large_body_does_not_hide_that_its_client_leaves(stage: Stage) -> None:
    stage.workers[0].hangs_after = 3
    body = b'{"model":"%s","messages":[{"role":"user","content":"hi"}]}' % MODEL.encode()
    body += b" " * 200_000
    _, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: edge\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    await stage.workers[0].until(lambda worker: worker.asked)
    writer.close()
    await stage.workers[0].until(lambda worker: worker.aborted)


def test_uvicorn_still_has_the_seam() -> None:
    """What client.py relies on. A new uvicorn that fails here needs a look at all of that file."""
    protocol = httptools_impl.HttpToolsProtocol
    made = inspect.getsource(protocol.on_headers_complete)
    assert "self.cycle = RequestResponseCycle(" in made
    assert "scope=self.scope," in made, "the scope that gets the client is the application's"
    sent = inspect.getsource(httptools_impl.RequestResponseCycle.send)
    assert 'content = [b"%x\\r\\n" % len(body), body, b"\\r\\n"]' in sent, "chunks are framed so"
    assert "await self.flow.drain()" in sent, "flow control is the protocol's own"
    assert "self.chunked_encoding = True" in sent
