from pathlib import Path

import pytest

from command.logs import last_line


@pytest.mark.parametrize(
    ("log", "line"),
    [
        pytest.param("", "", id="nothing-said"),
        pytest.param("first\nlast\n\n", "last", id="last-that-is-not-empty"),
        pytest.param('{"event": "gone", "level": "error"}\n', "gone", id="event-of-a-json-line"),
        pytest.param('{"event": "gone", "error": "why"}\n', "gone: why", id="with-its-error"),
        pytest.param("[1, 2]\n", "[1, 2]", id="json-that-is-no-event"),
        pytest.param("x" * 100_000 + "\nend\n", "end", id="long-log"),
    ],
)
def test_last_line(tmp_path: Path, log: str, line: str) -> None:
    file = tmp_path / "service.log"
    file.write_text(log)
    assert last_line(file) == line


def test_no_log_says_nothing(tmp_path: Path) -> None:
    assert last_line(tmp_path / "none.log") == ""
