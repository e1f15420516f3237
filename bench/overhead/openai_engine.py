"""A simulated engine behind OpenAI's HTTP, at as little cost a token as can be.

`python -m bench.overhead.openai_engine PORT base_ms=20,…`
"""

import asyncio
import json
import sys
import time
from functools import partial
from typing import Any, cast

import uvloop

from bench.overhead.engine import MODEL_TOKENS, Engine
from bench.overhead.workload import MODEL, VOCABULARY
from services.worker.sim_core import SimRun, read_settings

_OPENING = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_BODY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_DONE = b"data: [DONE]\n\n"


class Door(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._run: SimRun | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        # uvloop's transports are asyncio's in all but the class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever asked has left."""
        self._transport = None
        if self._run is not None:
            self._engine.abort(self._run)

    def data_received(self, data: bytes) -> None:
        """A part of a request, or several."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end].lower()
            length = int((head.partition(b"\r\ncontent-length:")[2] or b"0").split(b"\r\n")[0])
            if len(self._read) < end + 4 + length:
                return
            body = self._read[end + 4 : end + 4 + length]
            self._read = self._read[end + 4 + length :]
            self._serve(head.split(b" ", 2)[1].decode(), body)

    def _serve(self, path: str, body: bytes) -> None:
        if path.endswith("/chat/completions"):
            self._generate(json.loads(body))
        elif path.endswith("/chat/completions/render"):
            # vLLM's answer to who wants to route by tokens: no step of the engine.
            self._write_json({"request_id": "render", "token_ids": _prompt(json.loads(body))})
        elif path.startswith("/v1/models"):
            models = [{"id": MODEL, "object": "model", "max_model_len": MODEL_TOKENS}]
            self._write_json({"object": "list", "data": models})
        elif path.startswith("/metrics"):
            self._write_body(self._metrics().encode())
        else:
            self._write_json({})

    def _generate(self, request: dict[str, Any]) -> None:
        max_tokens = request.get("max_tokens") or request.get("max_completion_tokens") or 16
        prompt = _prompt(request)
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": max_tokens,
            "total_tokens": len(prompt) + max_tokens,
        }
        if request.get("stream"):
            wants_usage = (request.get("stream_options") or {}).get("include_usage")
            self._write(_OPENING)
            emit = partial(self._write_event, self._opening(), usage if wants_usage else None)
        else:
            emit = partial(self._write_whole, usage)
        self._run = self._engine.submit(prompt, max_tokens, emit)

    def _opening(self) -> bytes:
        return (
            f'data: {{"id":"chatcmpl-{self._engine.submitted}","object":"chat.completion.chunk",'
            f'"created":{int(time.time())},"model":"{MODEL}","choices":[{{"index":0,'
            '"delta":{"content":"'
        ).encode()

    def _write_event(
        self, opening: bytes, usage: dict[str, int] | None, number: int, is_last: bool
    ) -> None:
        word = VOCABULARY[number % len(VOCABULARY)].encode()
        reason = b'"length"' if is_last else b"null"
        event = b'%b%b "},"finish_reason":%b}]}\n\n' % (opening, word, reason)
        if not is_last:
            self._write(b"%x\r\n%b\r\n" % (len(event), event))
            return
        if usage is not None:
            event += b"data: %b\n\n" % json.dumps({"choices": [], "usage": usage}).encode()
        event += _DONE
        self._write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))

    def _write_whole(self, usage: dict[str, int], number: int, is_last: bool) -> None:
        if not is_last:
            return
        text = " ".join(VOCABULARY[at % len(VOCABULARY)] for at in range(1, number + 1))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length",
        }
        self._write_json(
            {
                "id": f"chatcmpl-{self._engine.submitted}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": MODEL,
                "choices": [choice],
                "usage": usage,
            }
        )

    def _metrics(self) -> str:
        label = f'{{model_name="{MODEL}"}}'
        return (
            f"vllm:num_requests_running{label} {self._engine.running}\n"
            f"vllm:num_requests_waiting{label} {self._engine.waiting}\n"
        )

    def _write_json(self, value: Any) -> None:
        self._write_body(json.dumps(value).encode())

    def _write_body(self, body: bytes) -> None:
        self._write(_BODY % (len(body), body))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _prompt(request: dict[str, Any]) -> list[int]:
    """As many tokens as words, which they are in vocabularies that the load is made for."""
    return [
        hash(word) & 0xFFFF
        for message in request["messages"]
        for word in f"{message['role']} {message['content']}".split(" ")
    ]


async def main(port: int, settings: str) -> None:
    """Serve until ended."""
    engine = Engine(read_settings(settings))
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Door(engine), "127.0.0.1", port, backlog=4096)
    await engine.run()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
