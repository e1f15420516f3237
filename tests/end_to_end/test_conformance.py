"""Every row of docs/conformance.md, sent to the running system."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from services.edge.conformance import Row, rows
from services.edge.declarations import DOORS

pytestmark = pytest.mark.vllm


def _named() -> Iterator[tuple[str, Row]]:
    for door in DOORS:
        for index, row in enumerate(rows(door)):
            yield f"{door.path}-{row.parameter}-{index}", row


ROWS = dict(_named())


@pytest.fixture(scope="module")
def answers(
    client: httpx.Client, request: pytest.FixtureRequest
) -> Iterator[Mapping[str, Future[httpx.Response]]]:
    """What the system says to the rows that were selected; it gets a batch's worth at a time."""
    selected = {item.name for item in request.session.items}
    with ThreadPoolExecutor(16) as senders:
        yield {
            name: senders.submit(client.post, row.door.path, json=row.body)
            for name, row in ROWS.items()
            if f"test_a_row[{name}]" in selected
        }
        senders.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", ROWS)
def test_a_row(answers: Mapping[str, Future[httpx.Response]], name: str) -> None:
    row = ROWS[name]
    response = answers[name].result()
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
