"""What a client may ask of the sampling, on real vLLM: log-probabilities, echo, faults of forms."""

import json
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.system import System

pytestmark = pytest.mark.vllm

UNICODE = "Repeat exactly: 🌊🎉 漢字 Grüße 💡"


def chat(client: httpx.Client, content: str, **more: Any) -> Any:
    body = {"model": "smollm2", "temperature": 0, "messages": [user(content)], **more}
    return answered(client.post("/v1/chat/completions", json=body))


def complete(client: httpx.Client, prompt: Any, **more: Any) -> Any:
    body = {"model": "smollm2", "temperature": 0, "prompt": prompt, **more}
    return answered(client.post("/v1/completions", json=body))


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def answered(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    if not response.headers["content-type"].startswith("text/event-stream"):
        return response.json()
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def entries_of(answer: Any) -> list[Any]:
    events = answer if isinstance(answer, list) else [answer]
    told = [choice["logprobs"] for event in events for choice in event["choices"]]
    return [entry for each in told if each is not None for entry in each["content"]]


def text_of(answer: Any) -> str:
    if not isinstance(answer, list):
        return str(answer["choices"][0]["message"]["content"])
    deltas = [choice["delta"] for event in answer for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.mark.parametrize("more", [{}, {"stop": ["e"]}], ids=["to-the-limit", "to-a-stop-string"])
def test_bytes_of_log_probabilities_are_the_content(
    client: httpx.Client, more: dict[str, Any]
) -> None:
    asked = {"max_tokens": 24, "logprobs": True, "top_logprobs": 3, **more}
    whole = chat(client, UNICODE, **asked)
    events = chat(client, UNICODE, **asked, stream=True)
    assert text_of(events) == text_of(whole)
    assert [each["bytes"] for each in entries_of(events)] == [
        each["bytes"] for each in entries_of(whole)
    ]
    raw = bytes(byte for each in entries_of(whole) for byte in each["bytes"])
    assert raw.decode(errors="ignore").startswith(text_of(whole))
    assert all(len(each["top_logprobs"]) == 3 for each in entries_of(whole))
    assert all(
        each["logprob"] == max(other["logprob"] for other in each["top_logprobs"])
        for each in entries_of(whole)
    )
    assert "\ufffd" not in json.dumps([whole, events], ensure_ascii=False)
    ChatCompletion.model_validate(whole, strict=True)
    for event in events:
        ChatCompletionChunk.model_validate(event, strict=True)


def test_an_echo_scores_its_prompt(client: httpx.Client) -> None:
    prompt = "The sea 🌊 is"
    answer = complete(client, prompt, echo=True, max_tokens=4, logprobs=2)
    [choice] = answer["choices"]
    columns = choice["logprobs"]
    assert choice["text"].startswith(prompt)
    assert columns["token_logprobs"][0] is None
    assert len(columns["tokens"]) == answer["usage"]["total_tokens"]
    for token, offset in zip(columns["tokens"], columns["text_offset"], strict=True):
        assert token.startswith("bytes:") or choice["text"][offset:].startswith(token)
    alone = complete(client, prompt, echo=True, max_tokens=0, logprobs=2)
    assert alone["choices"][0]["text"] == prompt
    assert alone["usage"]["completion_tokens"] == 0
    assert alone["choices"][0]["logprobs"]["tokens"] == columns["tokens"][:-4]


def test_a_completions_log_probabilities_are_the_sdks(client: httpx.Client) -> None:
    """But for an echo: what its first token has, null, the SDK's types do not know."""
    answer = complete(client, "The sea 🌊 is", max_tokens=4, logprobs=2)
    [choice] = Completion.model_validate(answer, strict=True).choices
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or ()) == choice.text


def test_an_echo_of_token_ids_is_their_text(client: httpx.Client) -> None:
    answer = complete(client, [504, 3725, 314], echo=True, max_tokens=1)
    whole = complete(client, [504, 3725, 314], max_tokens=1)
    assert answer["choices"][0]["text"].endswith(whole["choices"][0]["text"])
    assert len(answer["choices"][0]["text"]) > len(whole["choices"][0]["text"])


@pytest.mark.parametrize(
    ("more", "param"),
    [
        pytest.param(
            {"structured_outputs": {"regex": "("}}, "structured_outputs.regex", id="regex"
        ),
        pytest.param(
            {"structured_outputs": {"grammar": "root ::= ("}}, "structured_outputs", id="grammar"
        ),
        pytest.param(
            {"structured_outputs": {"structural_tag": {"type": "nonsense"}}},
            "structured_outputs",
            id="structural-tag",
        ),
        pytest.param(
            {"structured_outputs": {"json": {"type": "string", "anyOf": [{"maxLength": 2}]}}},
            "structured_outputs",
            id="schema-that-would-be-passed-over",
        ),
        pytest.param({"logit_bias": {"9999999": 1}}, "logit_bias", id="beyond-the-vocabulary"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_fault_is_a_400_by_name_and_hurts_nobody(
    client: httpx.Client, more: dict[str, Any], param: str, stream: bool
) -> None:
    body = {"model": "smollm2", "messages": [user("hi")], "stream": stream, **more}
    response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert text_of(chat(client, "Say hello.", max_tokens=4))


def test_the_sdks_own_types_take_a_stream_with_everything(vllm_system: System) -> None:
    sdk = OpenAI(base_url=f"{vllm_system.url}/v1", api_key="unused", max_retries=0)
    chunks = list(
        sdk.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "Say hello."}],
            stream=True,
            stream_options={"include_usage": True},
            logprobs=True,
            top_logprobs=2,
            max_completion_tokens=6,
            temperature=0,
            n=2,
            seed=7,
            user="u",
            metadata={"team": "a"},
            service_tier="auto",
            store=False,
        )
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens <= 12
    ended = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert len(ended) == 2
