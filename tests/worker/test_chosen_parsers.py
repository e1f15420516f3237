"""Which parsers a worker has, where no vLLM is needed to know."""

from pathlib import Path
from typing import Any

import pytest

from services.worker.chosen_parsers import load_parsers
from services.worker.config import Config
from services.worker.parsers import NoParsers


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"engine": "sim"}, id="the-simulator"),
        pytest.param({"kind": "embed"}, id="one-that-embeds"),
        pytest.param({"tool_parser": "none", "reasoning_parser": "none"}, id="switched-off"),
        pytest.param({"tool_parser": "none"}, id="none-that-the-model-suggests"),
    ],
)
def test_nobody_parses(tmp_path: Path, settings: Any) -> None:
    config = Config(model=str(tmp_path), model_names=("m",), scheduler="a:1", **settings)
    chosen = load_parsers(config)
    assert isinstance(chosen.parsers, NoParsers)
    assert chosen.reasoning == ""
