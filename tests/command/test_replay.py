"""Recordings read back and decided again."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command.arguments import parser
from command.errors import CommandError
from command.replay import replay
from command.simulation.recordings import BadRecording, Work, read_recording
from command.simulation.retold import tell
from command.simulation.step_costs import step_costs
from services.scheduler.facts import Key, Kind, Pool, Report, Request
from services.scheduler.outcomes import Decision, Placed, QueueFull
from services.scheduler.recording import (
    Answered,
    Ended,
    Entry,
    Joined,
    Left,
    Worked,
    write_entry,
    write_head,
)
from tests.scheduler.makers import hello

HEAD = write_head("round_robin", 1000.0)
DECISION = Decision("round_robin", 2, 0, None)


def asked(number: int, at_s: float, **said: Any) -> Request:
    usual: dict[str, Any] = {
        "key": Key(1, str(number)),
        "pool": Pool("alias", "", Kind.GENERATE),
        "prompt_tokens": 40,
        "max_tokens": 30,
        "block_hashes": tuple(range(9)),
        "block_size": 4,
        "tenant": f"t{number % 2}",
        "arrived_s": at_s,
    }
    return Request(**(usual | said))


def placed(request: Request, worker: str = "a", cached_tokens: int = 0) -> Answered:
    outcome = Placed(worker, "", 1, cached_tokens, 0.5, DECISION)
    return Answered(request.arrived_s + 0.5, request, outcome, "placed")


def refused(request: Request) -> Answered:
    return Answered(request.arrived_s, request, QueueFull(1, 1.0), "queue_full")


def work(steps: int, prefilled: int, decoded: int) -> Report:
    """What a worker says whose steps cost 8 ms, 50 µs a prompt token and 200 µs a decode."""
    micros = 8000 * steps + 50 * prefilled + 200 * decoded
    return Report(steps=steps, step_time_us=micros, generated_tokens=decoded)


def lines_of(*entries: Entry) -> list[str]:
    return [HEAD, *(write_entry(entry, 0.0) for entry in entries)]


def traffic(requests: int = 20) -> list[str]:
    """Two workers and requests that arrive four a second, each ended two seconds later."""
    entries: list[Entry] = [Joined(0.0, hello(name)) for name in "ab"]
    for number in range(requests):
        at_s = 1.0 + number / 4
        entries.append(placed(asked(number, at_s), "ab"[number % 2], 36 * (number > 1)))
        entries.append(Ended(at_s + 2.0, Key(1, str(number)), 0.25, 5))
        entries.append(Worked(at_s, "a", work(1 + number % 3, 0, 7 * number % 5)))
    return lines_of(*entries)


# Reading


def test_a_request_has_its_end() -> None:
    [request] = read_recording(
        lines_of(placed(asked(7, 3.0)), Ended(9.0, Key(1, "7"), 0.1, 4))
    ).requests
    assert (request.arrival_s, request.waited_s, request.ttft_s) == (3.0, 0.5, 0.1)
    assert (request.ended_s, request.generated_tokens) == (9.0, 4)
    assert request.blocks == tuple(range(9))


def test_an_id_that_is_placed_again_is_another_request() -> None:
    first, again = placed(asked(7, 3.0)), placed(asked(7, 5.0))
    ends = [Ended(4.0, Key(1, "7"), None, 0), Ended(6.0, Key(1, "7"), 0.2, 3)]
    requests = read_recording(lines_of(first, ends[0], again, ends[1])).requests
    assert [request.ended_s for request in requests] == [4.0, 6.0]


def test_after_a_restart_times_go_on_and_workers_join_again() -> None:
    later = write_head("predicted", 1100.0)
    joined = write_entry(Joined(0.0, hello("a")), 0.0)
    request = write_entry(placed(asked(7, 3.0)), 0.0)
    recording = read_recording([HEAD, joined, later, joined, request])
    assert recording.requests[0].arrival_s == 103.0
    assert recording.policy == "predicted"
    assert recording.most_live == {("m", "generate"): 1}


def test_the_most_workers_at_once_are_counted() -> None:
    a, b, c = (Joined(0.0, hello(name)) for name in "abc")
    entries: list[Entry] = [a, b, Left(1.0, "a"), c, placed(asked(1, 2.0))]
    assert read_recording(lines_of(*entries)).most_live == {("m", "generate"): 2}


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(lambda whole, half: [*whole, half], id="at the end"),
        pytest.param(lambda whole, half: [*whole, half, HEAD, *whole[1:]], id="before a restart"),
    ],
)
def test_a_cut_line_is_skipped(cut: Any) -> None:
    whole = lines_of(placed(asked(1, 2.0)))
    assert read_recording(cut(whole, whole[-1][:20])).requests


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        pytest.param([], "no requests", id="nothing"),
        pytest.param([HEAD], "no requests", id="no request"),
        pytest.param(["{"], "line 1 is no JSON", id="no JSON"),
        pytest.param(["[]"], "line 1 is not of a recording", id="no object"),
        pytest.param(["7"], "line 1 is not of a recording", id="a number"),
        pytest.param(['{"request": "1/7"}'], "does not begin with", id="no beginning"),
        pytest.param(['{"headway_recording": 2}'], "of version 2, not 1", id="of another time"),
        pytest.param([HEAD, "{", '{"left": "a"}'], "line 2 is no JSON", id="broken in the middle"),
        pytest.param([HEAD, '{"joined": "a"}'], "no 'models'", id="a field is missing"),
        pytest.param(
            [HEAD, write_entry(Joined(0, hello("a", block_size=0)), 0)],
            "block_size is 0",
            id="zero",
        ),
        pytest.param(
            [HEAD, write_entry(placed(asked(1, 0.0)), 0).replace('"blocks":"', '"blocks":"!')],
            "line 2 is not of a recording",
            id="no base64",
        ),
        pytest.param([HEAD, "[" * 100_000], "line 2 .* nested too deep", id="deep"),
    ],
)
def test_what_is_no_recording_is_told_in_one_line(lines: list[str], says: str) -> None:
    with pytest.raises(BadRecording, match=says) as caught:
        read_recording(lines)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("t_s", "NaN"),
        ("t_s", "Infinity"),
        ("t_s", "-1"),
        ("waited_s", "-9"),
        ("cached_tokens", "-500"),
        ("cached_tokens", "NaN"),
        ("priority", "1e400"),
        ("prompt_tokens", "1" + "0" * 400),
        ("max_tokens", "-1"),
        ("ttft_s", "NaN"),
        ("ttft_s", "-0.1"),
        ("generated_tokens", "-1"),
        ("generated_tokens", "10000000"),
        ("capacity_blocks", "-1"),
        ("step_s", "NaN"),
        ("prefilled_tokens", "-1"),
    ],
)
def test_a_number_that_cannot_be_is_told_in_one_line(number: str, value: str) -> None:
    said = f'"{number}":'
    lines = [re.sub(f"{said}[^,}}]+", f"{said}{value}", line) for line in traffic(1)]
    with pytest.raises(BadRecording, match=r"line \d is not of a recording") as caught:
        read_recording(lines)
    assert "\n" not in str(caught.value)


# Telling


def test_what_really_happened_is_as_it_was_recorded() -> None:
    story = tell(read_recording(traffic(4)))
    assert (story.model, story.most_live, len(story.jobs)) == ("m", 2, 4)
    assert [job.arrival_s for job in story.jobs] == [0.0, 0.25, 0.5, 0.75]
    assert {job.output_tokens for job in story.jobs} == {5}
    assert [end.ttft_s for end in story.served] == [0.75] * 4  # it waited for half a second
    assert [end.e2e_s for end in story.served] == [2.0] * 4
    assert [end.cached_tokens for end in story.served] == [0, 0, 36, 36]
    assert (story.settings.block_size, story.settings.capacity_blocks) == (4, 100)


def test_what_has_no_first_token_or_no_place_is_left_out_and_counted() -> None:
    entries: list[Entry] = [
        Joined(0.0, hello("a")),
        placed(asked(1, 1.0)),
        Ended(2.0, Key(1, "1"), 0.1, 4),
        placed(asked(2, 1.0)),
        placed(asked(3, 1.0)),
        Ended(2.0, Key(1, "3"), None, 0),
        refused(asked(4, 1.0)),
    ]
    story = tell(read_recording(lines_of(*entries)))
    assert (len(story.jobs), story.turned_away, story.unfinished) == (1, 1, 2)


def test_the_busiest_model_is_told_and_any_by_name() -> None:
    other = hello("o", models=("other",), kind=Kind.EMBED)
    entries: list[Entry] = [
        Joined(0.0, other),
        placed(asked(99, 1.0, pool=Pool("other", "", Kind.EMBED)), "o"),
    ]
    entries.append(Ended(2.0, Key(1, "99"), 0.1, 0))
    recording = read_recording([*traffic(4), *lines_of(*entries)[1:]])
    assert tell(recording).model == "m"
    assert tell(recording, "alias").model == "m"
    assert len(tell(recording, "other").jobs) == 1
    with pytest.raises(BadRecording, match="no request for nobody; models with requests: m, other"):
        tell(recording, "nobody")


def test_blocks_of_another_size_than_the_workers_find_nothing() -> None:
    entries: list[Entry] = [
        Joined(0.0, hello("a")),
        placed(asked(1, 1.0, block_size=8)),
        Ended(2.0, Key(1, "1"), 0.1, 4),
    ]
    assert tell(read_recording(lines_of(*entries))).jobs[0].blocks == ()


# Step costs


def test_costs_are_found_again() -> None:
    chance = np.random.default_rng(0)
    done = [
        Work(steps, (8e-3 * steps + 50e-6 * prefilled + 200e-6 * decoded), prefilled, decoded)
        for steps, prefilled, decoded in chance.integers(1, 100, (50, 3)).tolist()
    ]
    costs = step_costs(done)
    assert costs is not None
    assert costs.base_s == pytest.approx(8e-3)
    assert costs.prefill_s_per_token == pytest.approx(50e-6)
    assert costs.s_per_decode == pytest.approx(200e-6)


def test_no_cost_is_below_zero() -> None:
    done = [Work(2, 0.02 - 1e-5 * number, 0, number) for number in range(1, 30)]
    costs = step_costs(done)
    assert costs is not None
    assert costs.base_s == pytest.approx(0.00993, rel=0.01)
    assert (costs.prefill_s_per_token, costs.s_per_decode) == (0.0, 0.0)


@pytest.mark.parametrize("reports", [0, 9])
def test_from_too_little_nothing_is_concluded(reports: int) -> None:
    assert step_costs([Work(1, 0.01, 5, 1)] * reports) is None


# The command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recording.jsonl"
    path.write_text("".join(traffic()))
    return path


def run(*flags: object) -> None:
    replay(parser().parse_args(["replay", *map(str, flags)]))


def test_a_row_for_what_was_and_for_each_policy(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(file, "--policy", "predicted,random")
    recorded, replayed, headings, *rows = capsys.readouterr().out.splitlines()
    assert recorded == "recorded: 20 requests for m"
    assert "20 requests at 4.21/s on 2 workers of 100 blocks; step 8 ms" in replayed
    assert "hit rate" in headings
    assert [row.split()[0] for row in rows] == ["recorded:", "predicted", "random"]
    assert "0.750" in rows[0]


def test_more_workers_and_more_speed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(file, "--workers", 5, "--speed", 2, "--sim", "prefill_us=70")
    replayed = capsys.readouterr().out.splitlines()[1]
    assert "at 8.42/s on 5 workers" in replayed
    assert "70 µs a prompt token" in replayed


def test_a_packed_recording_gives_the_same(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(file)
    plain = capsys.readouterr().out
    packed = file.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    run(packed)
    assert capsys.readouterr().out == plain


def test_it_is_plotted(file: Path) -> None:
    target = file.with_name("plot.png")
    run(file, "--plot", target)
    assert target.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--policy", "best"], "--policy best is not known"),
        (["--model", "nobody"], "no request for nobody"),
        (["--workers", "0"], "--workers must be 1 to 1000"),
        (["--speed", "0"], "--speed must be positive"),
        (["--speed", "nan"], "--speed must be positive"),
        (["--sim", "best=1"], "--sim: 'best' is no setting"),
        (["--sim", "block_size=16"], "block_size is 4"),
        (["--sim", "base_ms=0,prefill_us=0,decode_us=0"], "a step must take time"),
        (["--plot", "/nowhere/plot.png"], "No such file"),
        (["--plot", "plot.gif"], "must end in .png"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_one_clear_line(file: Path, flags: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says) as caught:
        run(file, *flags)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_clear_line() -> None:
    with pytest.raises(CommandError, match="nofile: No such file"):
        run("nofile")


def test_costs_that_nobody_knows_are_asked_for(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if "worked" not in json.loads(line)]
    file.write_text("\n".join(lines))
    with pytest.raises(CommandError, match="too short to know what a step costs"):
        run(file)
    run(file, "--sim", "base_ms=8", "--policy", "predicted")
