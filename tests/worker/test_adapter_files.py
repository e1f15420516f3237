"""Adapters on disk: what is accepted, and what is said of the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.settings import SettingError
from services.worker.adapter_files import largest_rank


def adapter(directory: Path, config: Any, weights: str = "adapter_model.safetensors") -> str:
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps(config))
    if weights:
        (directory / weights).touch()
    return str(directory)


@pytest.mark.parametrize(
    ("configs", "rank"),
    [
        pytest.param([{"r": 8}], 8, id="its-own"),
        pytest.param([{"r": 4}], 8, id="the-next-that-vllm-takes"),
        pytest.param([{"r": 4}, {"r": 33}], 64, id="the-largest-of-all"),
        pytest.param([{"r": 4, "rank_pattern": {"v_proj": 16}}], 16, id="of-a-single-layer"),
        pytest.param([{"r": 4, "rank_pattern": None}], 8, id="no-pattern"),
    ],
)
def test_the_rank_to_make_room_for(tmp_path: Path, configs: list[Any], rank: int) -> None:
    paths = {str(n): adapter(tmp_path / str(n), config) for n, config in enumerate(configs)}
    assert largest_rank(paths) == rank


@pytest.mark.parametrize(
    ("config", "weights", "complaint"),
    [
        pytest.param({}, "adapter_model.safetensors", "no rank `r`", id="no-rank"),
        pytest.param([], "adapter_model.safetensors", "no rank `r`", id="no-object"),
        pytest.param({"r": 600}, "adapter_model.bin", "600 is more than 512", id="too-large"),
        pytest.param({"r": 8}, "", "no readable adapter_model.safetensors", id="no-weights"),
    ],
)
def test_what_is_no_adapter(tmp_path: Path, config: Any, weights: str, complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        largest_rank({"poet": adapter(tmp_path / "poet", config, weights)})


def test_no_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="WORKER_ADAPTERS: 'poet' is no adapter") as refused:
        largest_rank({"poet": str(tmp_path / "nowhere")})
    assert "\n" not in str(refused.value)
