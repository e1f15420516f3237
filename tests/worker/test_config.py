"""The worker's settings."""

from dataclasses import fields
from pathlib import Path

import pytest

from services.settings import SettingError, from_env
from services.worker.config import Config

NEEDED = {
    "WORKER_MODEL": "/models/m",
    "WORKER_MODEL_NAMES": "main,alias",
    "WORKER_SCHEDULER": "127.0.0.1:1",
}


def test_what_is_needed_is_enough() -> None:
    config = from_env(Config, "WORKER", NEEDED)
    assert (config.model_names, config.engine, config.kind) == (
        ("main", "alias"),
        "vllm",
        "generate",
    )


@pytest.mark.parametrize("variable", NEEDED)
def test_what_is_needed_is_asked_for(variable: str) -> None:
    with pytest.raises(SettingError, match=f"{variable} must be set"):
        from_env(Config, "WORKER", {name: NEEDED[name] for name in NEEDED if name != variable})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKER_ENGINE", "other"),
        ("WORKER_KIND", "rerank"),
        ("WORKER_MODEL", ""),
        ("WORKER_MODEL_NAMES", ","),
        ("WORKER_ID", ""),
        ("WORKER_LISTEN", "nowhere"),
        ("WORKER_LISTEN", "host:99999"),
        ("WORKER_SCHEDULER", "host:"),
        ("WORKER_METRICS_LISTEN", "9000"),
        ("WORKER_CPU_CORE", "first"),
        ("WORKER_BLOCK_SIZE", "-1"),
        ("WORKER_DRAIN_S", "nan"),
        ("WORKER_MAX_LORAS", "-1"),
        ("WORKER_ADAPTERS", "=/path"),
        ("WORKER_ADAPTERS", "poet=/a;poet=/b"),
        ("WORKER_ADAPTERS", "alias=/a"),
    ],
)
def test_wrong_values_are_named(variable: str, value: str) -> None:
    with pytest.raises(SettingError, match=variable):
        from_env(Config, "WORKER", NEEDED | {variable: value})


def test_a_worker_that_listens_everywhere_says_where_it_is() -> None:
    with pytest.raises(SettingError, match="WORKER_ADDRESS must be set"):
        from_env(Config, "WORKER", NEEDED | {"WORKER_LISTEN": "0.0.0.0:5000"})


def test_adapters_have_names_and_paths() -> None:
    config = from_env(Config, "WORKER", NEEDED | {"WORKER_ADAPTERS": "poet=/a=b;clerk;"})
    assert config.adapter_paths == {"poet": "/a=b", "clerk": ""}


def test_a_worker_that_embeds_has_no_adapters() -> None:
    with pytest.raises(SettingError, match="WORKER_ADAPTERS"):
        from_env(Config, "WORKER", NEEDED | {"WORKER_KIND": "embed", "WORKER_ADAPTERS": "a=/a"})


def test_every_variable_is_in_the_readme() -> None:
    readme = Path("services/worker/README.md").read_text()
    variables = [f"`WORKER_{field.name.upper()}`" for field in fields(Config)]
    assert [variable for variable in variables if variable not in readme] == []
