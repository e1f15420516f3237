"""Bodies and events that no case of `cases.py` has, each read by the SDKs' own types."""

from typing import Any

import httpx
import pytest
from openai.types import CreateEmbeddingResponse, Model

from tests.end_to_end import strict
from tests.end_to_end.answers import Asked, chat, completion, message, response
from tests.system import System

pytestmark = pytest.mark.vllm


def post(client: httpx.Client, asked: Asked) -> str:
    """The text of the answer, with all that Headway can tell."""
    explain = {"X-Headway-Explain": "1"}
    answered = client.post(asked.path, json=asked.body, headers=explain)
    assert answered.status_code == 200, answered.text
    return answered.text


EXPLAINED = [
    pytest.param(chat("Hi.", max_tokens=2, service_tier="flex"), id="chat"),
    pytest.param(completion("Hi.", max_tokens=2), id="completion"),
    pytest.param(
        response("Hi.", max_output_tokens=2, metadata={"a": "b"}, user="me", service_tier="auto"),
        id="response",
    ),
    pytest.param(message("Hi.", max_tokens=2), id="message"),
]


@pytest.mark.parametrize("asked", EXPLAINED)
def test_an_explained_answer(client: httpx.Client, asked: Asked) -> None:
    assert strict.read_body(asked.path, post(client, asked))["headway"]
    events = strict.read_stream(asked.path, post(client, asked.streamed()))
    assert any("headway" in {**event, **event.get("response", {})} for event in events)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(chat("Hi.", max_tokens=2, prompt_logprobs=1), id="chat"),
        pytest.param(completion("Hi all.", max_tokens=2, prompt_logprobs=1), id="completion"),
    ],
)
def test_a_scored_prompt(client: httpx.Client, asked: Asked) -> None:
    body = strict.read_body(asked.path, post(client, asked))
    [choice] = body["choices"]
    told = body.get("prompt_logprobs") or choice["prompt_logprobs"]
    assert len(told) == body["usage"]["prompt_tokens"]


def test_a_kept_response(client: httpx.Client) -> None:
    kept = strict.read_body("/v1/responses", post(client, response("Hi.", max_output_tokens=2)))
    found = client.get(f"/v1/responses/{kept['id']}")
    assert strict.read_body("/v1/responses", found.text) == kept


def test_models(client: httpx.Client) -> None:
    listed = strict.read(strict.ModelList, client.get("/v1/models").text)["data"]
    assert {"smollm2", "minilm"} <= {each["id"] for each in listed}
    for each in listed:
        assert strict.read(Model, client.get(f"/v1/models/{each['id']}").text) == each


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [("float", CreateEmbeddingResponse), ("base64", strict.EncodedEmbeddings)],
)
def test_embeddings(client: httpx.Client, encoding: str, kind: Any) -> None:
    body = {"model": "minilm", "input": ["a", "b"], "encoding_format": encoding}
    read = strict.read(kind, post(client, Asked("/v1/embeddings", body)))
    assert [each["index"] for each in read["data"]] == [0, 1]


def test_a_count(client: httpx.Client) -> None:
    body = {"model": "smollm2", "messages": message("Hi.").body["messages"]}
    asked = Asked("/v1/messages/count_tokens", body)
    assert strict.read_body(asked.path, post(client, asked))["input_tokens"] > 0


PATHS = [*strict.BODIES, "/v1/nowhere"]
FAULTS: dict[str, dict[str, Any]] = {
    "no-json": {"content": b"{"},
    "no-object": {"json": []},
    "no-parameters": {"json": {}},
    "unknown-parameter": {"json": {"nonsense": 1}},
    "another-type": {"content": b"a", "headers": {"content-type": "text/plain"}},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("path", PATHS)
def test_a_fault(client: httpx.Client, path: str, fault: str) -> None:
    answered = client.post(path, **FAULTS[fault])
    assert 400 <= answered.status_code < 500
    assert strict.read(strict.ERRORS["/messages" in path], answered.text)["error"]["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        pytest.param(chat("Hi.").with_(model="nobody"), 404, id="chat-model"),
        pytest.param(completion("Hi.").with_(model="nobody"), 404, id="completion-model"),
        pytest.param(response("Hi.").with_(model="nobody"), 404, id="response-model"),
        pytest.param(message("Hi.", max_tokens=1).with_(model="nobody"), 404, id="message-model"),
        pytest.param(chat("sea " * 9000), 400, id="chat-context"),
        pytest.param(response("sea " * 9000), 400, id="response-context"),
        pytest.param(message("sea " * 9000, max_tokens=1), 400, id="message-context"),
        pytest.param(completion("a", structured_outputs={"grammar": "("}), 400, id="engine"),
        pytest.param(
            response("a", previous_response_id="resp_0"), 400, id="response-that-is-not-kept"
        ),
    ],
)
def test_a_refusal(client: httpx.Client, asked: Asked, status: int, stream: bool) -> None:
    answered = client.post(asked.path, json={**asked.body, "stream": stream})
    assert answered.status_code == status
    is_anthropics = asked.path == "/v1/messages"
    assert strict.read(strict.ERRORS[is_anthropics], answered.text)["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
def test_another_method(vllm_system: System, path: str) -> None:
    answered = httpx.put(vllm_system.url + path, json={}, timeout=20)
    assert answered.status_code in (404, 405)
    assert strict.read(strict.ERRORS["/messages" in path], answered.text)["error"]["message"]


def test_the_reader_finds_what_is_wrong() -> None:
    """A field too many, one too few, a value of another type, and one that is not in the list."""
    good = '{"id": "a", "object": "model", "created": 1, "owned_by": "b"}'
    assert strict.read(Model, good)["id"] == "a"
    for bad in (
        good.replace('"id"', '"more": 1, "id"'),
        good.replace('"id": "a", ', ""),
        good.replace('"created": 1', '"created": "1"'),
        good.replace('"model"', '"models"'),
    ):
        with pytest.raises((AssertionError, ValueError)):
            strict.read(Model, bad)
