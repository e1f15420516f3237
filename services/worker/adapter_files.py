"""Adapters on disk, in PEFT's form: checked before the engine starts, which says no late."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from services.settings import SettingError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM can make room for
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")


def largest_rank(adapters: Mapping[str, str]) -> int:
    """The rank that the engine must make room for. Raises SettingError for what is no adapter."""
    needed = max(_rank(name, Path(path)) for name, path in adapters.items())
    fitting = [rank for rank in RANKS if rank >= needed]
    if not fitting:
        raise SettingError(f"WORKER_ADAPTERS: a rank of {needed} is more than {RANKS[-1]}")
    return fitting[0]


def _rank(name: str, directory: Path) -> int:
    try:
        config = json.loads((directory / "adapter_config.json").read_text())
    except (OSError, ValueError) as error:
        raise _no_adapter(name, directory, f"adapter_config.json: {error}") from error
    if not any(os.access(directory / weights, os.R_OK) for weights in _WEIGHTS):
        raise _no_adapter(name, directory, f"no readable {_WEIGHTS[0]}")
    try:
        return max(int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values()), 1)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_adapter(name, directory, "adapter_config.json has no rank `r`") from error


def _no_adapter(name: str, directory: Path, why: str) -> SettingError:
    reason = why.partition("\n")[0]
    return SettingError(f"WORKER_ADAPTERS: {name!r} is no adapter in {str(directory)!r}: {reason}")
