"""Token ids, models and the version of a running system; what is counted is what is billed."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import NotFoundError, OpenAI
from tokenizers import Tokenizer

from tests.system import System

pytestmark = pytest.mark.vllm

TEXT = "Grüße an das Meer, \U0001f30a!"
SAYS = [{"role": "user", "content": TEXT}]


def post(client: httpx.Client, path: str, **asked: Any) -> Any:
    response = client.post(path, json={"model": "smollm2", **asked})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_text_is_the_tokenizers_ids_and_back(client: httpx.Client, demo_model: Path) -> None:
    reference = Tokenizer.from_file(str(demo_model / "tokenizer.json"))
    tokenized = post(client, "/tokenize", prompt=TEXT, return_token_strs=True)
    assert tokenized["tokens"] == reference.encode(TEXT).ids
    assert tokenized["token_strs"] == reference.encode(TEXT).tokens
    assert tokenized["count"] == len(tokenized["tokens"])
    assert post(client, "/detokenize", tokens=tokenized["tokens"]) == {"prompt": TEXT}


def test_special_tokens_of_a_text_can_be_left_out(client: httpx.Client) -> None:
    with_them = post(client, "/tokenize", model="minilm", prompt="sea")["tokens"]
    without = post(client, "/tokenize", model="minilm", prompt="sea", add_special_tokens=False)
    assert with_them[1:-1] == without["tokens"]


def test_a_chats_ids_are_what_it_is_billed_for(client: httpx.Client) -> None:
    tokenized = post(client, "/tokenize", messages=SAYS)
    chat = post(client, "/v1/chat/completions", messages=SAYS, max_tokens=1)
    assert chat["usage"]["prompt_tokens"] == tokenized["count"]
    rendered = post(client, "/detokenize", tokens=tokenized["tokens"])["prompt"]
    assert rendered.endswith("<|im_start|>assistant\n")
    closed = post(client, "/tokenize", messages=SAYS, add_generation_prompt=False)
    assert closed["tokens"] == tokenized["tokens"][: closed["count"]]


def test_a_model_is_found_and_says_its_context(vllm_system: System, client: httpx.Client) -> None:
    with OpenAI(base_url=f"{vllm_system.url}/v1", api_key="unused", max_retries=0) as sdk:
        for name in ("smollm2", "minilm"):
            assert sdk.models.retrieve(name).id == name
            counted = post(client, "/tokenize", model=name, prompt="a")["max_model_len"]
            assert sdk.models.retrieve(name).model_dump()["max_model_len"] == counted
        with pytest.raises(NotFoundError, match="smollm2"):
            sdk.models.retrieve("org/nobody")


def test_the_version(client: httpx.Client) -> None:
    assert client.get("/version").json()["version"]


def test_an_id_outside_the_vocabulary(client: httpx.Client) -> None:
    response = client.post("/detokenize", json={"model": "smollm2", "tokens": [1, 4_000_000]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tokens")
