import pytest

from command.errors import CommandError
from command.waterfall import WIDTH, Stage, bar, draw, read_stages

LEDGER = {
    "request_id": "chatcmpl-1",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "model": "smollm2",
    "worker": "worker-0",
    "status": 200,
    "ttft_ms": {
        "total": 100.0,
        "stages": {"edge_receive": 10.0, "tokenize": 15.0, "prefill": 74.0},
        "unattributed": 1.0,
    },
    "prompt_tokens": 12,
    "cached_tokens": 8,
    "completion_tokens": 5,
    "resumes": 0,
    "placement": {},
}


def test_each_stage_begins_where_the_one_before_ended() -> None:
    assert read_stages(LEDGER["ttft_ms"]) == [  # type: ignore[arg-type]
        Stage("edge_receive", 0.0, 10.0),
        Stage("tokenize", 10.0, 15.0),
        Stage("prefill", 25.0, 74.0),
        Stage("unattributed", 99.0, 1.0),
    ]


@pytest.mark.parametrize(
    ("begins", "share", "drawn"),
    [
        pytest.param(0.0, 1.0, "█" * WIDTH, id="all"),
        pytest.param(0.5, 0.5, " " * 20 + "█" * 20, id="second-half"),
        pytest.param(0.0, 1 / 80, "▌", id="half-a-letter"),
        pytest.param(0.25, 0.0, " " * 10, id="nothing"),
        pytest.param(0.0, -0.1, "", id="less-than-nothing-is-nothing"),
        pytest.param(0.0, 1.2, "█" * WIDTH, id="more-than-all-is-all"),
    ],
)
def test_bars(begins: float, share: float, drawn: str) -> None:
    assert bar(begins, share) == drawn


def test_the_waterfall_shows_every_stage_and_the_sum() -> None:
    lines = list(draw(LEDGER))
    assert lines[0] == "chatcmpl-1  trace 4bf92f3577b34da6a3ce929d0e0e4736"
    assert "12 prompt tokens (8 cached)" in lines[1]
    names = [line.split()[0] for line in lines[3:7]]
    assert names == ["edge_receive", "tokenize", "prefill", "unattributed"]
    assert "74.000 ms  74.0%" in lines[5]
    assert lines[-1].endswith("100.000 ms")


def test_without_a_first_token_there_is_no_waterfall() -> None:
    early = {**LEDGER, "ttft_ms": {"total": 0.0, "stages": {}, "unattributed": 0.0}}
    with pytest.raises(CommandError, match="before its first token"):
        list(draw(early))
