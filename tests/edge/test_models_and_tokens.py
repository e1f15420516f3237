"""Models, versions, and token ids, asked of an edge between scripted services."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.edge.apis.openai_tokens import parse_detokenize, parse_tokenize
from services.edge.apis.refusals import Invalid
from services.edge.tenants import read_tenants
from services.edge.workers import Pool
from tests.edge.conftest import Stage, staged
from tests.edge.scripted import ADAPTER, CONTEXT, EMBEDDING_MODEL, MODEL

SAYS_HI = [{"role": "user", "content": "hi"}]


def body(**more: Any) -> bytes:
    return json.dumps({"model": MODEL, **more}).encode()


@pytest.mark.parametrize(
    ("content", "param"),
    [
        pytest.param(body(), "prompt", id="neither"),
        pytest.param(body(prompt="a", messages=SAYS_HI), "prompt", id="both"),
        pytest.param(
            body(prompt="a", add_generation_prompt=True), "add_generation_prompt", id="chat-only"
        ),
        pytest.param(
            body(messages=SAYS_HI, add_generation_prompt=True, continue_final_message=True),
            "continue_final_message",
            id="both-ends",
        ),
        pytest.param(body(messages=[]), "messages", id="no-message"),
        pytest.param(body(messages=[{"role": "user"}]), "messages[0].content", id="nothing-said"),
        pytest.param(body(prompt="a", colour=1), "colour", id="unknown"),
        pytest.param(b'{"prompt":"a"}', "model", id="no-model"),
    ],
)
def test_bad_tokenizations_name_the_parameter(content: bytes, param: str) -> None:
    invalid = parse_tokenize(content)
    assert isinstance(invalid, Invalid)
    assert invalid.param == param


@pytest.mark.parametrize(
    ("content", "param"),
    [
        pytest.param(body(), "tokens", id="missing"),
        pytest.param(body(tokens="a"), "tokens", id="a-text"),
        pytest.param(body(tokens=[-1]), "tokens", id="negative"),
        pytest.param(body(tokens=[1], skip_special_tokens=True), "skip_special_tokens", id="other"),
    ],
)
def test_bad_detokenizations_name_the_parameter(content: bytes, param: str) -> None:
    invalid = parse_detokenize(content)
    assert isinstance(invalid, Invalid)
    assert (invalid.param or "").startswith(param)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """An edge with a worker that embeds."""
    async with staged(embedders=1) as built:
        yield built


async def test_a_model_is_found_by_its_name(stage: Stage) -> None:
    listed = (await stage.client.get("/v1/models")).json()["data"]
    assert [entry["id"] for entry in listed] == sorted([MODEL, ADAPTER, EMBEDDING_MODEL])
    for entry in listed:
        assert (await stage.client.get(f"/v1/models/{entry['id']}")).json() == entry
    adapter = (await stage.client.get(f"/v1/models/{ADAPTER}")).json()
    assert (adapter["parent"], adapter["root"], adapter["max_model_len"]) == (MODEL, MODEL, CONTEXT)
    model = (await stage.client.get(f"/v1/models/{MODEL}")).json()
    assert (model["parent"], model["root"]) == (None, MODEL)
    head = await stage.client.head(f"/v1/models/{MODEL}")
    assert (head.status_code, head.content) == (200, b"")


async def test_a_models_name_may_hold_slashes(stage: Stage) -> None:
    hops = stage.edge._hops
    hops.fleet.pools["org/name"] = Pool(CONTEXT, ready=True, generates=True)
    for path in ("/v1/models/org/name", "/v1/models/org%2Fname"):
        assert (await stage.client.get(path)).json()["id"] == "org/name"


async def test_an_unknown_model_is_told_the_known(stage: Stage) -> None:
    for name in ("nobody", "a/b", ""):
        response = await stage.client.get(f"/v1/models/{name}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
        assert MODEL in response.json()["error"]["message"]
    deleted = await stage.client.delete(f"/v1/models/{MODEL}")
    assert (deleted.status_code, deleted.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_with_tenants_models_need_a_key_and_health_does_not() -> None:
    tenants = read_tenants(b'{"tenants":[{"name":"acme","keys":["secret"]}]}')
    async with staged(tenants) as stage:
        key = {"Authorization": "Bearer secret"}
        for path in ("/v1/models", f"/v1/models/{MODEL}"):
            assert (await stage.client.get(path)).status_code == 401
            assert (await stage.client.get(path, headers=key)).status_code == 200
        asked = await stage.client.post("/tokenize", content=body(prompt="a"))
        assert asked.status_code == 401
        for path in ("/healthz", "/readyz", "/health", "/ping", "/metrics", "/version"):
            assert (await stage.client.get(path)).status_code == 200


async def test_the_version_is_a_text(stage: Stage) -> None:
    answered = (await stage.client.get("/version")).json()
    assert list(answered) == ["version"]
    assert answered["version"]


@pytest.mark.parametrize("asked", [{"prompt": "hi"}, {"messages": SAYS_HI}], ids=["text", "chat"])
async def test_ids_and_back(stage: Stage, asked: dict[str, Any]) -> None:
    tokenized = await stage.client.post("/tokenize", content=body(**asked))
    assert tokenized.json() == {
        "count": 2,
        "max_model_len": CONTEXT,
        "tokens": [104, 105],
        "token_strs": None,  # as vLLM has it
    }
    tokens = tokenized.json()["tokens"]
    back = await stage.client.post("/detokenize", content=body(tokens=tokens))
    assert back.json() == {"prompt": "hi"}
    assert back.headers["x-request-id"]


async def test_tokens_are_spelled_on_demand(stage: Stage) -> None:
    asked = body(prompt="hi", return_token_strs=True)
    assert (await stage.client.post("/tokenize", content=asked)).json()["token_strs"] == ["h", "i"]


async def test_what_is_asked_of_a_tokenization_reaches_the_tokenizer(stage: Stage) -> None:
    await stage.client.post(
        "/tokenize",
        content=body(
            messages=SAYS_HI,
            add_special_tokens=True,
            continue_final_message=True,
            chat_template_kwargs={"a": 1},
            tools=[{"type": "function", "function": {"name": "f", "description": "does it"}}],
        ),
    )
    [asked] = [each for tokenizer in stage.tokenizers for each in tokenizer.asked]
    assert asked.add_special_tokens
    assert asked.chat.continue_final_message
    assert not asked.chat.add_generation_prompt
    assert json.loads(asked.chat.template_kwargs_json) == {"a": 1}
    assert [(tool.name, tool.description) for tool in asked.chat.tools] == [("f", "does it")]


async def test_nothing_has_no_tokens(stage: Stage) -> None:
    assert (await stage.client.post("/tokenize", content=body(prompt=""))).json()["tokens"] == []
    empty = await stage.client.post("/detokenize", content=body(tokens=[]))
    assert empty.json() == {"prompt": ""}


async def test_an_adapter_has_its_models_vocabulary_and_an_embedding_model_its_own(
    stage: Stage,
) -> None:
    for model in (ADAPTER, EMBEDDING_MODEL):
        asked = {"model": model, "prompt": "hi"}
        assert (await stage.client.post("/tokenize", json=asked)).json()["count"] == 2
    asked_models = [each.model for tokenizer in stage.tokenizers for each in tokenizer.asked]
    assert sorted(asked_models) == sorted([MODEL, EMBEDDING_MODEL])


@pytest.mark.parametrize("door", ["/tokenize", "/detokenize"])
async def test_an_unknown_model_has_no_vocabulary(stage: Stage, door: str) -> None:
    asked = {"model": "nobody"} | ({"prompt": "a"} if door == "/tokenize" else {"tokens": [1]})
    response = await stage.client.post(door, json=asked)
    assert response.status_code == 404
    assert MODEL in response.json()["error"]["message"]


async def test_an_id_outside_the_vocabulary_is_named(stage: Stage) -> None:
    response = await stage.client.post("/detokenize", content=body(tokens=[0x110000]))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tokens")


async def test_a_dead_tokenizer_is_replaced_and_two_are_a_503(stage: Stage) -> None:
    stage.tokenizers[0].dead = True
    for _ in range(3):
        back = await stage.client.post("/detokenize", content=body(tokens=[104]))
        assert back.json() == {"prompt": "h"}
    stage.tokenizers[1].dead = True
    assert (await stage.client.post("/detokenize", content=body(tokens=[104]))).status_code == 503


async def test_a_model_without_a_ready_worker_is_not_listed(stage: Stage) -> None:
    fleet = stage.edge._hops.fleet
    fleet.hear([])
    assert (await stage.client.get(f"/v1/models/{MODEL}")).status_code == 404
