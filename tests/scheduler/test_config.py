"""The settings, and that the README knows them all."""

from dataclasses import fields
from pathlib import Path

import pytest

from services.scheduler.config import Config
from services.settings import SettingError, from_env


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("SCHEDULER_POLICY", "best", id="no-such-policy"),
        pytest.param("SCHEDULER_WORKER_TTL_S", "0", id="no-life"),
        pytest.param("SCHEDULER_WORKER_TTL_S", "0.4", id="a-life-of-less-than-two-heartbeats"),
        pytest.param("SCHEDULER_HEARTBEAT_MS", "soon", id="not-a-number"),
        pytest.param("SCHEDULER_QUEUE_LIMIT", "-1", id="a-negative-queue"),
        pytest.param("SCHEDULER_INDEX_LIMIT", "0", id="an-index-of-nothing"),
        pytest.param("SCHEDULER_INDEX_EVERY", "0", id="no-block-in-none"),
        pytest.param("SCHEDULER_DRAIN_S", "-1", id="a-negative-drain"),
        pytest.param("SCHEDULER_RECORD_LIMIT_MB", "0", id="a-recording-of-nothing"),
        pytest.param("SCHEDULER_POLCY", "random", id="a-misspelt-name"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        from_env(Config, "SCHEDULER", {name: value})


def test_every_variable_is_in_the_readme() -> None:
    readme = Path("services/scheduler/README.md").read_text()
    names = [f"SCHEDULER_{field.name.upper()}" for field in fields(Config)]
    assert [name for name in names if name not in readme] == []
