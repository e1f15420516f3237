"""Decisions as a table."""

import pytest
from rich.console import Console

from command.arguments import parser
from command.decisions import decisions, decisions_table
from command.errors import CommandError
from headway.scheduler.v1 import scheduler_pb2 as pb


def shown(record: pb.DecisionRecord) -> list[str]:
    """The cells of its row."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(decisions_table([record]))
    return capture.get().splitlines()[1].split()


def record(predicted_ms: float | None, actual_ms: float | None) -> pb.DecisionRecord:
    return pb.DecisionRecord(
        request_id="r",
        worker_id="a",
        prompt_tokens=50,
        cached_tokens=48,
        decision=pb.Decision(candidates=2, predicted_ttft_ms=predicted_ms, queued_prefill_tokens=7),
        waited_us=1500,
        actual_ttft_ms=actual_ms,
        age_ms=2500,
    )


def test_predicted_beside_what_came_true() -> None:
    expected = "r - a 2 50 48 7 1.5 10.0 8.0 +2.0 (+25%) 2.5 s"
    assert shown(record(10, 8)) == expected.split()


@pytest.mark.parametrize(
    ("predicted_ms", "actual_ms", "cells"),
    [
        pytest.param(None, 8, ["-", "8.0", "-"], id="rates-were-not-known"),
        pytest.param(10, None, ["10.0", "-", "-"], id="no-token-came-yet"),
        pytest.param(10, 0, ["10.0", "0.0", "+10.0"], id="no-share-of-nothing"),
    ],
)
def test_what_is_not_known(
    predicted_ms: float | None, actual_ms: float | None, cells: list[str]
) -> None:
    assert shown(record(predicted_ms, actual_ms))[8:11] == cells


@pytest.mark.parametrize("limit", [0, -1, 1025])
def test_a_wrong_number_is_one_clear_line(limit: int) -> None:
    with pytest.raises(CommandError, match="--decisions must be 1 to 1024"):
        decisions(limit, as_json=False)


@pytest.mark.parametrize(
    ("flags", "limit"), [([], None), (["--decisions"], 20), (["--decisions", "3"], 3)]
)
def test_how_many_are_asked_for(flags: list[str], limit: int | None) -> None:
    assert parser().parse_args(["workers", *flags]).decisions == limit
