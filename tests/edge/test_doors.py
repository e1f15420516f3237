"""Which path takes which method and which body, and what a browser is told."""

import asyncio
import gzip
import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.edge.apis.refusals import UnknownPath, WrongMethod, answer
from services.edge.cors import Cors
from services.edge.doors import Door, Doors, closed
from services.edge.http import is_json
from services.edge.reception import Reception
from tests.edge.conftest import Stage, staged
from tests.edge.scripted import MODEL

PAGE = "https://page.example"
CHAT = "/v1/chat/completions"


async def nobody(*_: Any) -> None:
    """What no test enters."""


READ, ASK, MODEL_OF, ITEM, END = (
    Door((method,), nobody, "door") for method in ("GET", "POST", "GET", "GET", "POST")
)
DOORS = Doors(
    {
        "/read": READ,
        "/ask": ASK,
        "/read/{model}": MODEL_OF,
        "/item/{item_id}": ITEM,
        "/item/{item_id}/end": END,
    }
)


@pytest.mark.parametrize(
    ("path", "door"),
    [
        pytest.param("/read", READ, id="exactly"),
        pytest.param("/read/a/b", MODEL_OF, id="a-model-with-slashes"),
        pytest.param("/read/\n", MODEL_OF, id="any-name"),
        pytest.param("/read/", MODEL_OF, id="an-empty-name"),
        pytest.param("/item/a", ITEM, id="an-item"),
        pytest.param("/item/a/end", END, id="below-an-item"),
        pytest.param("/item/a/b", None, id="nothing-is-below-an-item"),
        pytest.param("/item//end", None, id="no-item"),
        pytest.param("/ask/a", None, id="nothing-is-below"),
        pytest.param("/", None, id="nothing-is-there"),
    ],
)
def test_the_door_at_a_path(path: str, door: Door | None) -> None:
    assert DOORS.find(path) is door
    assert ((path, "GET") in DOORS.enter) is (path == "/read")


@pytest.mark.parametrize(
    ("door", "method", "enters"),
    [
        (READ, "GET", True),
        (READ, "HEAD", True),
        (READ, "POST", False),
        (ASK, "POST", True),
        (ASK, "HEAD", False),
        (ASK, "GET", False),
    ],
)
def test_the_methods_of_a_door(door: Door, method: str, enters: bool) -> None:
    assert door.takes(method) is enters
    if not enters:
        assert closed(door, method, "/") == answer(WrongMethod(method, door.methods))
    assert closed(None, method, "/x") == answer(UnknownPath(method, "/x"))


@pytest.mark.parametrize(
    ("content_type", "is_read"),
    [
        pytest.param(None, True, id="absent"),
        pytest.param(b"application/json", True, id="json"),
        pytest.param(b"Application/JSON ; charset=utf-8", True, id="json-with-a-charset"),
        pytest.param(b"application/vnd.api+json", True, id="a-kind-of-json"),
        pytest.param(b"application/x-www-form-urlencoded", False, id="a-form"),
        pytest.param(b"text/plain", False, id="text"),
        pytest.param(b"", False, id="empty"),
    ],
)
def test_which_bodies_are_read(content_type: bytes | None, is_read: bool) -> None:
    assert is_json(content_type) is is_read


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        pytest.param((), PAGE, False, id="none-is-configured"),
        pytest.param((PAGE,), PAGE, True, id="configured"),
        pytest.param(("https://other.example",), PAGE, False, id="another-is"),
        pytest.param(("*",), PAGE, True, id="any"),
        pytest.param(("*",), None, False, id="no-browser"),
    ],
)
def test_which_origins_are_allowed(
    origins: tuple[str, ...], origin: str | None, allowed: bool
) -> None:
    asked = {} if origin is None else {b"origin": origin.encode()}
    assert bool(Cors(origins).headers(asked)) is allowed
    assert bool(Cors(origins).preflight(asked, "POST")) is allowed


async def test_a_head_has_no_body_and_an_options_tells_the_methods(stage: Stage) -> None:
    for path in ("/v1/models", "/healthz", "/readyz", "/metrics"):
        head = await stage.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
    options = await stage.client.options(CHAT, headers={"Origin": PAGE})
    assert (options.status_code, options.headers["allow"]) == (204, "POST, OPTIONS")
    assert "access-control-allow-origin" not in options.headers
    wrong = await stage.client.put("/v1/models")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (await stage.client.options("/nowhere")).status_code == 404


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_page_that_may_call_asks_first_and_then_calls(stream: bool) -> None:
    async with staged(cors_origins=(PAGE,)) as stage:
        asking = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        preflight = await stage.client.options(CHAT, headers=asking)
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["access-control-allow-headers"] == "authorization,content-type"
        called = await stage.chat(headers={"Origin": PAGE}, stream=stream)
        assert called.headers["access-control-allow-origin"] == PAGE
        refused = await stage.chat(headers={"Origin": PAGE}, model="nobody")
        assert refused.headers["access-control-allow-origin"] == PAGE
        other = await stage.chat(headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


def answered(endpoint: str, status: int) -> float:
    """How often that was counted, in this process."""
    named = {"endpoint": endpoint, "status": str(status)}
    return REGISTRY.get_sample_value("headway_edge_requests_total", named) or 0


@pytest.mark.parametrize(
    ("method", "path", "status", "endpoint"),
    [
        pytest.param("GET", "/v1/models", 200, "models", id="models"),
        pytest.param("GET", f"/v1/models/{MODEL}", 200, "model", id="a-model"),
        pytest.param("HEAD", "/version", 200, "version", id="a-head"),
        pytest.param("GET", "/v1/models/nobody", 404, "model", id="no-model"),
        pytest.param("GET", "/v1/responses/r", 404, "kept_response", id="no-response"),
        pytest.param("HEAD", "/v1/responses/r", 404, "kept_response", id="no-response-to-head"),
        pytest.param("POST", "/v1/responses/r/cancel", 404, "cancel", id="nothing-to-cancel"),
        pytest.param("GET", "/metrics", 200, "metrics", id="a-scrape"),
        pytest.param("GET", "/some/where", 404, "unknown", id="nowhere"),
        pytest.param("PUT", CHAT, 405, "chat", id="another-method"),
        pytest.param("OPTIONS", CHAT, 204, "chat", id="its-methods"),
        pytest.param("POST", "/tokenize", 400, "tokenize", id="an-inquiry"),
        pytest.param("POST", CHAT, 400, "chat", id="a-chat"),
        pytest.param("GET", "/headway/ledgers", 200, "ledgers", id="an-operator"),
    ],
)
@pytest.mark.parametrize("named", ["mine", "x" * 129], ids=["named", "badly-named"])
async def test_every_answer_has_an_id_and_is_counted(
    stage: Stage, method: str, path: str, status: int, endpoint: str, named: str
) -> None:
    before = answered(endpoint, status)
    response = await stage.client.request(method, path, headers={"x-request-id": named})
    assert response.status_code == status
    own = response.headers["x-request-id"]
    assert own == named if named == "mine" else len(own) == 32
    assert answered(endpoint, status) == before + 1


@pytest.mark.parametrize(
    ("path", "error"),
    [
        pytest.param(CHAT, ("error", "code", "internal_error"), id="openais"),
        pytest.param("/v1/messages", ("error", "type", "api_error"), id="anthropics"),
    ],
)
async def test_a_fault_of_the_program_is_a_500_with_an_id_and_without_the_fault(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, path: str, error: tuple[str, str, str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a secret")

    before = answered(endpoint := stage.edge.doors.at[path].endpoint, 500)
    monkeypatch.setattr(Reception, "recognise", fail)
    response = await stage.client.post(path, json={}, headers={"x-request-id": "mine"})
    assert (response.status_code, response.headers["x-request-id"]) == (500, "mine")
    within, name, value = error
    assert response.json()[within][name] == value
    assert "secret" not in response.text
    assert answered(endpoint, 500) == before + 1
    monkeypatch.undo()
    assert (await stage.chat()).status_code == 200


async def test_a_body_that_says_it_is_a_form_is_refused(stage: Stage) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    response = await stage.client.post(CHAT, content=b"{}", headers=form)
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    ("encoding", "content", "status", "code"),
    [
        pytest.param("gzip", gzip.compress(b"{}"), 415, "unsupported_content_encoding", id="gzip"),
        pytest.param("identity", b"{", 400, "invalid_json", id="only-wrong"),
        pytest.param("identity", b"{}", 400, "missing_required_parameter", id="plain"),
    ],
)
async def test_a_packed_body_is_refused_as_that(
    stage: Stage, encoding: str, content: bytes, status: int, code: str
) -> None:
    headers = {"content-encoding": encoding}
    for path in (CHAT, "/tokenize"):
        response = await stage.client.post(path, content=content, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert response.headers.get("accept-encoding") == ("identity" if status == 415 else None)


async def raw(port: int, *parts: bytes) -> tuple[int, Any]:
    """What an edge answers, with an id, and the JSON of it; it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        answered = await reader.read()
    writer.close()
    head, _, body = answered.partition(b"\r\n\r\n")
    assert b"\r\nx-request-id: " in head
    return int(head.split()[1]), json.loads(body)


async def test_a_body_that_does_not_arrive_is_a_408() -> None:
    async with staged(body_timeout_s=0.05) as stage:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: edge\r\ncontent-length: 100\r\n\r\n".encode()
        for parts in ((head,), (head, b'{"model":')):
            status, told = await raw(stage.port, *parts)
            assert (status, told["error"]["code"]) == (408, "request_timeout")
        assert (await stage.chat()).status_code == 200


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"x" * 70_000], id="at-once"),
        pytest.param([b"x" * 30_000] * 3, id="by-and-by"),
        pytest.param([b"x" * 70_000 + b"\r\n\r\n"], id="whole"),
    ],
)
async def test_a_head_that_is_too_large_is_a_431(stage: Stage, parts: list[bytes]) -> None:
    status, told = await raw(stage.port, b"GET /healthz HTTP/1.1\r\nhost: edge\r\nx-long: ", *parts)
    assert (status, told["error"]["code"]) == (431, "headers_too_large")
    assert (await stage.chat()).status_code == 200


async def test_a_large_body_is_not_taken_for_a_head(stage: Stage) -> None:
    for _ in range(2):  # on one connection
        response = await stage.chat("x" * 100_000)
        assert response.json()["error"]["code"] == "context_length_exceeded"


async def test_what_is_no_http_is_a_400(stage: Stage) -> None:
    before = answered("unknown", 400)
    status, told = await raw(stage.port, b"nonsense\r\n\r\n")
    assert (status, told["error"]["code"]) == (400, "invalid_http")
    assert answered("unknown", 400) == before + 1


async def test_bodies_come_in_parts(stage: Stage) -> None:
    async def parts() -> Any:
        yield b'{"model":"%s",' % MODEL.encode()
        await asyncio.sleep(0.02)
        yield b'"messages":[{"role":"user","content":"hi"}]}'

    response = await stage.client.post(CHAT, content=parts())
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/nobody"),
        ("GET", "/v1/responses/nothing"),
        ("GET", "/v1/nowhere"),
        ("PUT", "/v1/chat/completions"),
    ],
)
async def test_every_answer_below_v1_has_its_requests_id(
    stage: Stage, method: str, path: str
) -> None:
    ids = {(await stage.client.request(method, path)).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    own = await stage.client.request(method, path, headers={"x-request-id": "mine"})
    assert own.headers["x-request-id"] == "mine"
