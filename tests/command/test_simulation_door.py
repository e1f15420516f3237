import gzip
import json
import time
from pathlib import Path

import pytest

from bench import routing
from command.arguments import parser
from command.errors import CommandError
from command.simulate import simulate

TRACE = "".join(
    json.dumps(
        {
            "timestamp": number * 300,
            "input_length": 1500 + number,
            "output_length": 5,
            "hash_ids": [0, number % 7, 100 + number, 200 + number],
        }
    )
    + "\n"
    for number in range(60)
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text(TRACE)
    return path


def run(*flags: str) -> None:
    simulate(parser().parse_args(["simulate", *flags]))


def test_a_row_for_each_policy(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--trace", str(trace), "--policy", "predicted,round_robin", "--workers", "2")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("60 requests at ")
    assert "hit rate" in said[1]
    assert [row.split()[0] for row in said[2:]] == ["predicted", "round_robin"]


def test_the_table_is_plotted(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = trace.with_suffix(".png")
    run("--trace", str(trace), "--policy", "predicted", "--plot", str(plot))
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.splitlines()[-1] == f"plotted in {plot}"


def test_a_packed_trace_gives_the_same(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = trace.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(TRACE.encode()))
    run("--trace", str(trace), "--seed", "4")
    plain = capsys.readouterr().out
    run("--trace", str(packed), "--seed", "4")
    assert capsys.readouterr().out == plain


def test_virtual_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("slept"))
    begun_s = time.monotonic()
    run("--workload", "unique", "--requests", "200", "--speed", "0.001", "--policy", "predicted")
    assert time.monotonic() - begun_s < 60  # for 200,000 virtual seconds


@pytest.mark.parametrize("flags", [["--requests", "1"], ["--workload", "burst", "--requests", "9"]])
def test_what_comes_all_at_once_has_no_speed(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(*flags, "--policy", "predicted")
    assert "all at once" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--trace", "/nowhere/trace.jsonl"], "No such file"),
        (["--policy", "best"], "--policy best is not known; choose predicted"),
        (["--workload", "real"], "--workload real is not known; choose shared"),
        (["--workers", "0"], "--workers must be 1 to 1000"),
        (["--workers", "1001"], "--workers must be 1 to 1000"),
        (["--requests", "0"], "--requests must be at least 1"),
        (["--speed", "-1"], "--speed must be positive"),
        (["--load", "0"], "--load must be positive"),
        (["--load", "nan"], "--load must be positive"),
        (["--load", "0.5", "--speed", "2"], "not both"),
        (["--plot", "/nowhere/plot.png"], "--plot /nowhere/plot.png: No such file"),
        (["--sim", "speed=1"], "--sim: 'speed' is no setting"),
        (["--sim", "base_ms=x"], "--sim: base_ms must be a number"),
        (["--sim", "base_ms=0,prefill_us=0,decode_us=0"], "--sim: a step must take time"),
        (["--sim", "block_size=16"], "block_size is 512"),
        (["--capacity-blocks", "0"], "capacity_blocks must be 1 or more"),
        (["--capacity-blocks", "2", "--requests", "5"], "more than a worker's 1024"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_one_clear_line(flags: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says) as caught:
        run(*flags)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{}\n", "line 1 is not of a Mooncake trace"),
        (b"\xff\xfe\n", "decode"),
        (b"", "no requests"),
    ],
    ids=["no request", "no text", "empty"],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=says):
        run("--trace", str(path))


def test_a_file_that_is_not_packed_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.gz"
    path.write_text(TRACE)
    with pytest.raises(CommandError, match="gzip"):
        run("--trace", str(path))


def test_the_comparison_has_all_policies_and_peers(
    trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--trace", str(trace), "--workers", "2,3", "--loads", "0.5,0.9"]
    monkeypatch.setattr("sys.argv", ["routing", *flags])
    assert routing.main() == 0
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows]
    expected = [
        f"{name}, placed at once" if at_once and name == "predicted" else name
        for name, at_once in routing.runs()
    ]
    assert names == ["policy", "---", *expected] * 4


def test_the_comparison_tells_a_wrong_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["routing", "--trace", "/nowhere/trace"])
    assert routing.main() == 1
    assert (
        capsys.readouterr().err
        == "bench.routing: --trace /nowhere/trace: No such file or directory\n"
    )
