"""The text that leaves the system is the model's own: greedy, float32, token for token."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer

from tests.golden import greedy_ids
from tests.system import System

pytestmark = pytest.mark.vllm

LIMIT = 20
PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Count from one to ten.",
    "Name three colours.",
    "def fibonacci(n):",
    "Explain gravity to a child.",
    "Was ist zwei plus zwei? Schöne Grüße 🌊",
    "Give me a short recipe for bread.",
)


@pytest.fixture(scope="module")
def golden(demo_model: Path) -> dict[str, str]:
    """What transformers answers to each prompt."""
    tokenizer = Tokenizer.from_file(str(demo_model / "tokenizer.json"))
    return {prompt: _greedy(demo_model, tokenizer, prompt) for prompt in PROMPTS}


def _greedy(model: Path, tokenizer: Tokenizer, prompt: str) -> str:
    text = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        f"<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    decoded: str = tokenizer.decode(greedy_ids(model, ids, LIMIT), skip_special_tokens=True)
    return decoded


async def _ask(client: httpx.AsyncClient, prompt: str, stream: bool) -> str:
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": LIMIT,
        "stream": stream,
    }
    response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return _streamed(response.text) if stream else _whole(response.json())


def _whole(answer: Any) -> str:
    content: str = answer["choices"][0]["message"]["content"]
    return content


def _streamed(text: str) -> str:
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events]
    return "".join(delta.get("content", "") for delta in deltas)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_one_at_a_time(vllm_system: System, golden: dict[str, str], stream: bool) -> None:
    async with httpx.AsyncClient(base_url=vllm_system.url, timeout=60) as client:
        answers = {prompt: await _ask(client, prompt, stream) for prompt in PROMPTS}
    assert answers == golden


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_all_at_once(vllm_system: System, golden: dict[str, str], stream: bool) -> None:
    async with httpx.AsyncClient(base_url=vllm_system.url, timeout=60) as client:
        asked = [_ask(client, prompt, stream) for prompt in PROMPTS]
        answers = dict(zip(PROMPTS, await asyncio.gather(*asked), strict=True))
    assert answers == golden
