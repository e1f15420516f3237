"""A completion of more prompts than the fleet has room for: the rest wait for the first to end."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.system import System, system

ROOM = 2


@pytest.fixture(scope="module")
def small(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    flags = ("--engine", "sim", "--workers", "1", "--sim", f"max_running={ROOM}")
    with system(tmp_path_factory.mktemp("small"), *flags) as running:
        yield running


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_all_prompts_are_answered_in_order(small: System, stream: bool) -> None:
    prompts = [f"prompt {place}" for place in range(ROOM * 20)]
    asked = {"model": "smollm2", "prompt": prompts, "max_tokens": 2, "stream": stream}
    answer = httpx.post(f"{small.url}/v1/completions", json=asked, timeout=30)
    assert answer.status_code == 200
    if stream:
        assert answer.text.count('"finish_reason":"length"') == len(prompts)
        assert answer.text.endswith("data: [DONE]\n\n")
    else:
        choices = answer.json()["choices"]
        assert [choice["index"] for choice in choices] == list(range(len(prompts)))


def test_one_wrong_prompt_refuses_all_before_any_is_placed(small: System) -> None:
    before = placed(small)
    asked = {"model": "smollm2", "prompt": ["fits", "too long " * 9000]}
    answer = httpx.post(f"{small.url}/v1/completions", json=asked, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert placed(small) == before


def placed(running: System) -> int:
    """How many placements the scheduler has decided."""
    return running.headway("workers", "--decisions", "1000").stdout.count("\n")
