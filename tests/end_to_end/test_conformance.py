"""Every row of docs/conformance.md, sent to the running system."""

import httpx
import pytest

from services.edge.apis.conformance import Row, rows
from services.edge.apis.declarations import DOORS

pytestmark = pytest.mark.vllm

ROWS = [row for door in DOORS for row in rows(door)]


def _name(row: Row) -> str:
    return f"{row.door.path.rpartition('/')[2]}-{row.parameter}"


@pytest.mark.parametrize("row", ROWS, ids=_name)
def test_a_row(client: httpx.Client, row: Row) -> None:
    response = client.post(row.door.path, json=row.body)
    if row.refusal is None:
        assert response.status_code == 200, response.text
        assert '"error":{' not in response.text
    else:
        assert response.status_code == 400
        error = response.json()["error"]
        if row.door.is_anthropics:  # which has no field for the parameter
            assert error["message"].endswith(row.refusal.message)
            assert row.refusal.param in error["message"]
        else:
            assert (error["message"], error["param"]) == (row.refusal.message, row.refusal.param)
