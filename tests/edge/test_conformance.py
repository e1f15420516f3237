"""The table of what every parameter gets is whole, and the one in docs/ is the code's."""

from pathlib import Path

import pytest

from services.edge.apis.conformance import page, rows
from services.edge.apis.declarations import DOORS, Door

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.path)
def test_every_parameter_has_an_example(door: Door) -> None:
    assert set(door.body.__struct_fields__) - set(door.least) - set(door.examples) == set()


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.path)
def test_what_is_not_honoured_is_named(door: Door) -> None:
    refused = [row for row in rows(door) if row.refusal is not None]
    assert refused
    for row in refused:
        assert row.refusal is not None
        # The name of what is at fault, or of what it clashes with.
        assert (row.refusal.param or "").partition(".")[0].partition("[")[0] in row.body


def test_the_page_is_made_from_the_code() -> None:
    remedy = f"run `python -m services.edge.apis.conformance > {PAGE}`"
    assert PAGE.read_text() == page(), remedy
