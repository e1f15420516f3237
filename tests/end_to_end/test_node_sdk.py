"""The official Node SDKs do not notice either."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system import System

pytestmark = pytest.mark.vllm

NODE = Path(__file__).parents[1] / "node"


def run(script: str, system: System) -> Any:
    done = subprocess.run(
        ["node", script, system.url], cwd=NODE, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_openai(vllm_system: System) -> None:
    told = run("openai.mjs", vllm_system)
    assert told["whole"]
    assert told["streamed"] == told["whole"]
    assert told["usage"]["total_tokens"] == told["usage_whole"]["total_tokens"]
    assert told["completion"]
    assert "smollm2" in told["models"]
    assert told["refusal"] == {"status": 400, "param": "best_of", "kind": "BadRequestError"}
