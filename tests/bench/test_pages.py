"""Pages whose tables are made by the commands that they name."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.overhead.children import ROOT
from bench.pages import commands, replaced, unset

DOCS = ROOT / "docs" / "benchmarks"
PAGE = """\
Before.

<!-- made by: python -m one -->

old

<!-- end -->

Between.

<!-- made by: python -m two --of $TRACE -->
<!-- end -->
"""


def test_a_page_says_what_its_tables_are_made_by() -> None:
    assert commands(PAGE) == ["python -m one", "python -m two --of $TRACE"]


def test_one_table_is_replaced_and_all_else_stays() -> None:
    fresh = replaced(PAGE, "python -m one", "\n| new |\n")
    assert fresh == PAGE.replace("\nold\n", "\n| new |\n")
    assert replaced(PAGE, "python -m two --of $TRACE", "| x |").startswith(PAGE[:-20])


def test_a_table_may_hold_what_a_pattern_would_not() -> None:
    assert r"\1 \g<begin>" in replaced(PAGE, "python -m one", r"\1 \g<begin>")


def test_a_command_needs_the_variables_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACE", raising=False)
    assert unset("python -m two --of $TRACE") == ["TRACE"]
    monkeypatch.setenv("TRACE", "file")
    assert unset("python -m two --of $TRACE") == []


def pages() -> list[str]:
    """The pages that `make bench` makes, but for the one that has no commands."""
    [listed] = re.findall(r"^PAGES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return [name for name in listed.split() if name != "overhead"]


def test_make_bench_makes_every_page_that_names_a_command() -> None:
    named = {file.stem for file in DOCS.glob("*.md") if commands(file.read_text())}
    assert named == set(pages())


@pytest.mark.parametrize("page", pages())
def test_commands_are_of_modules_that_there_are(page: str) -> None:
    for command in commands((DOCS / f"{page}.md").read_text()):
        program, flag, module, *_ = command.split()
        assert (program, flag) == ("python", "-m")
        assert find_spec(module) is not None


def test_every_environment_of_peers_is_pinned_whole() -> None:
    for name in ("peers", "peers-litellm"):
        lines = Path(ROOT, "requirements", f"{name}.txt").read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert pins
        assert all(re.fullmatch(r"[\w.\-]+==[\w.+]+", pin) for pin in pins)
