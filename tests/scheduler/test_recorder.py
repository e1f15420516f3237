"""Recordings: what is in them, and what happens when the disk does not play along."""

import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headway.scheduler.v1 import scheduler_pb2 as pb
from services.scheduler.facts import Key, Kind, Pool, Report, Request
from services.scheduler.metrics import Metrics
from services.scheduler.outcomes import QueueFull
from services.scheduler.recorder import WAITING_LIMIT, Recorder, RecordingFile
from services.scheduler.recording import Answered, Ended, Joined, Left, Worked, write_entry
from tests.scheduler.clients import Edge, item, packed
from tests.scheduler.conftest import SILENCE, running
from tests.scheduler.makers import hello

ENDED = Ended(7.0, Key(1, "r"), 0.25, 9)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def file_at(path: Path, limit_bytes: int = 2**20) -> RecordingFile:
    return RecordingFile(path, limit_bytes, "predicted")


def figures(registry: CollectorRegistry) -> tuple[float | None, float | None]:
    """Entries recorded, and dropped."""
    return (
        registry.get_sample_value("headway_scheduler_recorded_entries_total"),
        registry.get_sample_value("headway_scheduler_record_drops_total"),
    )


async def test_traffic_is_recorded_from_hello_to_end(tmp_path: Path) -> None:
    async with running(record=str(tmp_path / "r.jsonl")) as fleet:
        worker = await fleet.joined("a")
        timing = pb.PrefillTiming(request_id="x", computed_tokens=5, prefill_us=7)
        report = pb.Report(prefills=[timing], steps=3, step_time_us=600, generated_tokens=4)
        await worker.say(report=report)
        await fleet.until(lambda workers: workers["a"].HasField("report"))
        edge = Edge(fleet.stub)
        await edge.asks(item("r", packed(5, 6), tenant="t", priority=2), item("s", model="x"))
        end = pb.FinishRequest(request_id="r", actual_ttft_ms=250, completion_tokens=5)
        await edge.asks(finished=[end])
        await worker.leave()
        await fleet.until(lambda workers: not workers)
    head, joined, worked, *asked, ended, left = lines(tmp_path / "r.jsonl")
    assert (head["headway_recording"], head["policy"]) == (1, "predicted")
    assert (joined["joined"], joined["block_size"], joined["models"]) == ("a", 4, ["m"])
    assert (worked["worked"], worked["steps"], worked["step_s"]) == ("a", 3, 0.0006)
    assert (worked["prefills"], worked["prefilled_tokens"]) == (1, 5)
    placed, refused = sorted(asked, key=lambda each: str(each["request"]))
    assert placed["request"].endswith("/r")
    assert (placed["outcome"], placed["worker"], placed["cached_tokens"]) == ("placed", "a", 0)
    assert (placed["tenant"], placed["priority"], placed["prompt_tokens"]) == ("t", 2, 11)
    assert (refused["outcome"], "worker" in refused) == ("unknown_model", False)
    assert ended["ended"] == placed["request"]
    assert (ended["ttft_s"], ended["generated_tokens"]) == (0.25, 5)
    assert left["left"] == "a"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param(
            Left(7.0, "a"), {"left": "a", "t_s": 2.0}, id="times count from the beginning"
        ),
        pytest.param(
            ENDED,
            {"ended": "1/r", "t_s": 2.0, "ttft_s": 0.25, "generated_tokens": 9},
            id="an id is unique within its owner",
        ),
        pytest.param(
            Worked(7.0, "a", Report(steps=2, step_time_us=3000, generated_tokens=4)),
            {
                "worked": "a",
                "t_s": 2.0,
                "steps": 2,
                "step_s": 0.003,
                "prefills": 0,
                "prefilled_tokens": 0,
                "generated_tokens": 4,
            },
            id="steps are summed up",
        ),
    ],
)
def test_a_line(entry: Left | Ended | Worked, expected: dict[str, Any]) -> None:
    assert json.loads(write_entry(entry, began_s=5.0)) == expected


def test_a_deadline_counts_from_the_arrival() -> None:
    request = Request(
        key=Key(1, "r"),
        pool=Pool("m", "", Kind.GENERATE),
        prompt_tokens=9,
        arrived_s=6.0,
        deadline_s=8.5,
    )
    line = json.loads(write_entry(Answered(7.0, request, QueueFull(1, 1.0), "queue_full"), 5.0))
    assert (line["t_s"], line["deadline_s"], line["outcome"]) == (1.0, 2.5, "queue_full")


def test_after_a_restart_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"headway_recording":1}\n{"request":"1/cut in mid-li')
    file = file_at(path)
    file.write(deque([ENDED]))
    file.close()
    first, cut, head, ended = (line for line in path.read_text().splitlines() if line)
    assert cut.endswith("mid-li")
    assert "headway_recording" in first
    assert json.loads(head)["policy"] == "predicted"
    assert json.loads(ended)["ended"] == "1/r"


def test_at_the_limit_the_older_half_goes_and_the_fleet_is_told_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    file = file_at(path, limit_bytes=4000)
    file.write(deque([Joined(1.0, hello("a")), Joined(1.0, hello("b")), Left(2.0, "b")]))
    for _ in range(100):
        file.write(deque([ENDED]))
    file.close()
    assert path.stat().st_size <= 2000
    assert path.with_name("r.jsonl.1").stat().st_size <= 2000
    head, joined, *others = lines(path)
    assert "headway_recording" in head
    assert joined["joined"] == "a"
    assert {other["ended"] for other in others} == {"1/r"}


def test_a_fleet_that_alone_fills_the_file_leaves_room_for_traffic(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    file = file_at(path, limit_bytes=1000)
    file.write(deque(Joined(1.0, hello(f"w{number}")) for number in range(20)))
    head_bytes = sum(len(write_entry(Joined(1.0, hello(f"w{n}")), 0.0)) for n in range(20))
    ends = [Ended(7.0, Key(1, str(number)), 0.25, 9) for number in range(100)]
    for end in ends:
        file.write(deque([end]))
    file.close()
    both = lines(path.with_name("r.jsonl.1")) + lines(path)
    ended = [line["ended"] for line in both if "ended" in line]
    assert ended == [f"1/{number}" for number in range(100 - len(ended), 100)]
    assert len(ended) > 40
    assert path.stat().st_size < 2.1 * head_bytes


def test_an_entry_larger_than_the_file_may_be_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    file = file_at(path, limit_bytes=10)
    file.write(deque([Ended(7.0, Key(1, "r" * 500), 0.25, 9)]))
    file.close()
    assert len(lines(path)) == 2
    assert not path.with_name("r.jsonl.1").exists()


async def test_what_waits_is_bounded_and_the_rest_counted(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    recorder = Recorder(file_at(tmp_path / "r"), Metrics("predicted", registry), SILENCE)
    for _ in range(WAITING_LIMIT + 3):
        recorder.record(ENDED)
    await recorder.close()
    assert figures(registry) == (WAITING_LIMIT, 3)


async def test_a_disk_that_fails_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    path = tmp_path / "r"
    file = file_at(path, limit_bytes=10)  # a few entries need a new file
    path.unlink()
    recorder = Recorder(file, Metrics("predicted", registry), SILENCE)
    for _ in range(9):
        recorder.record(ENDED)
    await recorder.close()
    recorder.record(ENDED)
    assert figures(registry) == (0, 10)
