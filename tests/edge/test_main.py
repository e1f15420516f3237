"""The process: what it says when it cannot begin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "services.edge"]
HOPS = {"EDGE_TOKENIZERS": "127.0.0.1:1", "EDGE_SCHEDULER": "127.0.0.1:1"}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        pytest.param({"EDGE_TOKENIZERS": ""}, "edge: EDGE_TOKENIZERS", id="no-tokenizer"),
        pytest.param({"EDGE_LISTEN": "nowhere"}, "edge: cannot listen on nowhere", id="no-address"),
        pytest.param({"EDGE_TENANTS": "none.json"}, "edge: EDGE_TENANTS: [Errno 2]", id="no-file"),
        pytest.param({"EDGE_TENANTS": "empty.json"}, "edge: EDGE_TENANTS: Input", id="no-tenants"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    settings: dict[str, str], line: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.json").touch()
    named = {
        name: str(tmp_path / value) if value.endswith(".json") else value
        for name, value in settings.items()
    }
    environment = {"PATH": os.environ["PATH"], **HOPS, **named}
    ended = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(line)
    assert ended.stderr.count("\n") == 1
