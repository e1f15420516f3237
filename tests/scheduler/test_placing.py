"""Requests come by hand and in batches, over a real server."""

import asyncio
from typing import Any

import grpc
import pytest

from headway.scheduler.v1 import scheduler_pb2 as pb
from tests.scheduler.clients import Edge, Running, item, packed, place_request
from tests.scheduler.conftest import running

StatusCode = grpc.StatusCode


async def test_place_by_hand_and_finish(fleet: Running) -> None:
    await fleet.joined("a")
    placed = await fleet.stub.Place(place_request())
    assert (placed.worker_id, placed.address, placed.epoch) == ("a", "a:1", 1)
    assert placed.lease_ms == 60_000
    assert placed.timings.admission_queue_us == 0
    assert placed.timings.place_us > 0
    assert (placed.decision.policy, placed.decision.candidates) == ("predicted", 1)
    assert not placed.decision.HasField("predicted_ttft_ms")
    assert (await fleet.workers())["a"].placed_requests == 1
    await fleet.stub.Finish(pb.FinishRequest(request_id="r"))
    assert (await fleet.workers())["a"].placed_requests == 0


async def test_decisions_are_listed_newest_first_with_what_came_true(fleet: Running) -> None:
    for name in ("a", "b"):
        await fleet.joined(name)
    for number in range(3):
        await fleet.stub.Place(place_request(request_id=f"r{number}", tenant="acme"))
    report = pb.FinishRequest(request_id="r2", actual_ttft_ms=125.0)
    await fleet.stub.Finish(report)
    listed = await fleet.stub.ListDecisions(pb.ListDecisionsRequest(limit=2))
    newest, older = listed.decisions
    assert (newest.request_id, newest.actual_ttft_ms, newest.tenant) == ("r2", 125.0, "acme")
    assert (older.request_id, older.HasField("actual_ttft_ms")) == ("r1", False)
    assert {each.worker_id for each in newest.considered} == {"a", "b"}
    assert newest.worker_id in ("a", "b")
    assert sum(each.requests for each in newest.considered) == 2


@pytest.mark.parametrize(
    ("said", "code", "named"),
    [
        pytest.param({"request_id": ""}, StatusCode.INVALID_ARGUMENT, "request_id", id="no-id"),
        pytest.param({"prompt_tokens": 0}, StatusCode.INVALID_ARGUMENT, "prompt", id="no-prompt"),
        pytest.param(
            {"block_hashes": [1], "block_size": 0},
            StatusCode.INVALID_ARGUMENT,
            "block_size",
            id="blocks-of-no-size",
        ),
        pytest.param(
            {"block_hashes": [1, 2, 3]},
            StatusCode.INVALID_ARGUMENT,
            "block_hashes",
            id="more-blocks-than-prompt",
        ),
        pytest.param({"prompt_tokens": 999}, StatusCode.INVALID_ARGUMENT, "200", id="too-large"),
        pytest.param({"model": "x"}, StatusCode.NOT_FOUND, "known models are m", id="no-model"),
        pytest.param({"max_tokens": 0}, StatusCode.NOT_FOUND, "embeddings", id="not-embedding"),
        pytest.param(
            {"excluded_workers": ["a"]}, StatusCode.UNAVAILABLE, "no worker", id="nobody-left"
        ),
        pytest.param({"deadline_ms": 0}, StatusCode.DEADLINE_EXCEEDED, "deadline", id="too-late"),
    ],
)
async def test_place_is_refused(
    fleet: Running, said: dict[str, Any], code: grpc.StatusCode, named: str
) -> None:
    await fleet.joined("a")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await fleet.stub.Place(place_request(**said))
    assert refused.value.code() is code
    assert named in (refused.value.details() or "")
    assert (await fleet.stub.Place(place_request("good"))).worker_id == "a"


async def test_unknown_names_are_not_found(fleet: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="holds no placement") as refused:
        await fleet.stub.Finish(pb.FinishRequest(request_id="x"))
    assert refused.value.code() is StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError, match="not in the fleet") as refused:
        await fleet.stub.DrainWorker(pb.DrainWorkerRequest(worker_id="x"))
    assert refused.value.code() is StatusCode.NOT_FOUND


async def test_a_full_queue_says_when_to_come_again() -> None:
    async with running(queue_limit=1) as fleet:
        await fleet.joined("a", max_running=1)
        await fleet.stub.Place(place_request("first"))
        second = fleet.stub.Place(place_request("second"))
        await _until_queued(fleet, 1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await fleet.stub.Place(place_request("third"))
        assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert dict(refused.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
        second.cancel()
        await _until_queued(fleet, 0)


async def test_a_request_by_hand_waits_for_room(fleet: Running) -> None:
    await fleet.joined("a", max_running=1)
    await fleet.stub.Place(place_request("first"))
    second = asyncio.ensure_future(fleet.stub.Place(place_request("second")))
    await _until_queued(fleet, 1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await fleet.stub.Place(place_request("second"))
    assert refused.value.code() is StatusCode.ALREADY_EXISTS
    await fleet.stub.Finish(pb.FinishRequest(request_id="first"))
    assert (await second).timings.admission_queue_us > 0


async def test_a_request_by_hand_may_leave_in_the_turn_of_its_answer(fleet: Running) -> None:
    await fleet.joined("a", max_running=1)
    await fleet.stub.Place(place_request("first"))
    desk = fleet.service._desk
    second = asyncio.ensure_future(desk.place_by_hand(place_request("second")))
    await _until_queued(fleet, 1)
    second.cancel()
    assert desk.finish_by_hand(pb.FinishRequest(request_id="first"))
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (await fleet.stub.Place(place_request("third"))).worker_id == "a"


async def test_what_waits_by_hand_has_nothing_to_give_back(fleet: Running) -> None:
    await fleet.joined("a", max_running=1)
    await fleet.stub.Place(place_request("first"))
    second = asyncio.ensure_future(fleet.stub.Place(place_request("second")))
    await _until_queued(fleet, 1)
    with pytest.raises(grpc.aio.AioRpcError, match="holds no placement"):
        await fleet.stub.Finish(pb.FinishRequest(request_id="second"))
    await fleet.stub.Finish(pb.FinishRequest(request_id="first"))
    async with asyncio.timeout(5):
        assert (await second).worker_id == "a"


async def test_a_placement_by_hand_is_forgotten_after_its_lease() -> None:
    async with running(lease_ms=1) as fleet:
        await fleet.joined("a", max_running=1)
        await fleet.stub.Place(place_request("first"))
        assert (await fleet.stub.Place(place_request("second"))).worker_id == "a"


async def test_a_batch_is_acknowledged_with_its_results(fleet: Running) -> None:
    worker = await fleet.joined("a")
    await worker.say(kv=pb.KvChange(sequence=0, stored=packed(1)))
    await fleet.until(lambda workers: workers["a"].cached_blocks == 1)
    edge = Edge(fleet.stub)
    results = await edge.asks(item("r", packed(1, 2)), item("s", model="x"))
    assert results["r"].placed.cached_tokens == 4
    assert results["s"].turned_away.reason == pb.TURNED_AWAY_REASON_UNKNOWN_MODEL
    assert await edge.asks(finished=[pb.FinishRequest(request_id="r", actual_ttft_ms=3)]) == {}
    assert (await fleet.workers())["a"].placed_requests == 0


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        pytest.param(item("bad", b"odd"), "8 bytes", id="half-a-hash"),
        pytest.param(item("bad", prompt_tokens=0), "prompt_tokens", id="no-prompt"),
        pytest.param(item("bad", block_size=0, hashes=packed(1)), "block_size", id="no-size"),
    ],
)
async def test_a_broken_request_harms_no_other(
    fleet: Running, bad: pb.PlaceItem, named: str
) -> None:
    await fleet.joined("a")
    results = await Edge(fleet.stub).asks(bad, item("good"))
    assert results["bad"].turned_away.reason == pb.TURNED_AWAY_REASON_INVALID
    assert named in results["bad"].turned_away.message
    assert results["good"].placed.worker_id == "a"


async def test_a_batch_without_a_number_ends_the_stream(fleet: Running) -> None:
    edge = Edge(fleet.stub)
    await edge.call.write(pb.PlaceBatchesRequest())
    assert await edge.call.code() is StatusCode.INVALID_ARGUMENT


async def test_who_waits_is_answered_later(fleet: Running) -> None:
    await fleet.joined("a", max_running=1)
    edge = Edge(fleet.stub)
    assert set(await edge.asks(item("first"), item("second"))) == {"first"}
    assert await edge.asks(finished=[pb.FinishRequest(request_id="first")]) == {}
    response = await edge.hears()
    assert response.batch == 0
    assert [result.request_id for result in response.results] == ["second"]
    assert response.results[0].placed.timings.admission_queue_us > 0


async def test_a_deadline_is_kept_while_waiting(fleet: Running) -> None:
    await fleet.joined("a", max_running=1)
    edge = Edge(fleet.stub)
    await edge.asks(item("first"), item("second", deadline_ms=1))
    (result,) = (await edge.hears()).results
    assert result.turned_away.reason == pb.TURNED_AWAY_REASON_DEADLINE
    assert not result.turned_away.HasField("retry_after_ms")


async def test_what_is_withdrawn_is_not_placed_and_not_kept(fleet: Running) -> None:
    await fleet.joined("a", max_running=1)
    edge = Edge(fleet.stub)
    await edge.asks(item("first"), item("second"), item("third"))
    assert await edge.asks(withdrawn=["second", "stranger"]) == {}
    # The first was placed already: its answer crossed the withdrawal.
    assert await edge.asks(withdrawn=["first"]) == {}
    assert [result.request_id for result in (await edge.hears()).results] == ["third"]
    assert (await fleet.workers())["a"].placed_requests == 1


async def test_a_request_may_come_and_go_in_one_batch(fleet: Running) -> None:
    await fleet.joined("a")
    edge = Edge(fleet.stub)
    await edge.asks(item("r"), withdrawn=["r"])
    assert (await fleet.workers())["a"].placed_requests == 0


async def test_a_request_may_end_and_come_again_in_one_batch(fleet: Running) -> None:
    await fleet.joined("a", max_running=1)
    await fleet.joined("b", max_running=1)
    edge = Edge(fleet.stub)
    assert (await edge.asks(item("r")))["r"].placed.worker_id == "a"
    failed = pb.FinishRequest(request_id="r", outcome=pb.FINISH_OUTCOME_FAILED)
    results = await edge.asks(item("r", excluded_workers=["a"]), finished=[failed])
    assert results["r"].placed.worker_id == "b"
    assert [one.placed_requests for one in (await fleet.workers()).values()] == [0, 1]


async def test_the_end_of_a_stream_gives_everything_back(fleet: Running) -> None:
    await fleet.joined("a", max_running=1)
    gone, stays = Edge(fleet.stub), Edge(fleet.stub)
    await gone.asks(item("r"), item("waits"))
    assert await stays.asks(item("r")) == {}
    gone.call.cancel()
    (result,) = (await stays.hears()).results
    assert result.placed.worker_id == "a"
    listed = await fleet.stub.ListWorkers(pb.ListWorkersRequest())
    assert (listed.queued_requests, listed.workers[0].placed_requests) == (0, 1)


async def test_an_edge_that_closes_its_side_is_released_too(fleet: Running) -> None:
    await fleet.joined("a")
    edge = Edge(fleet.stub)
    await edge.asks(item("r"))
    await edge.call.done_writing()
    assert await edge.call.code() is StatusCode.OK
    assert (await fleet.workers())["a"].placed_requests == 0


async def test_workers_are_listed_by_model(fleet: Running) -> None:
    await fleet.joined("b")
    await fleet.joined("a")
    await fleet.joined("e", models=["minilm"], kind=pb.WORKER_KIND_EMBED)
    listed = await fleet.stub.ListWorkers(pb.ListWorkersRequest(model="m"))
    assert [one.hello.worker_id for one in listed.workers] == ["a", "b"]
    assert listed.policy == "predicted"
    placed = await fleet.stub.Place(place_request(model="minilm", max_tokens=0))
    assert placed.worker_id == "e"


async def _until_queued(fleet: Running, count: int) -> None:
    async with asyncio.timeout(5):
        listing = pb.ListWorkersRequest()
        while (await fleet.stub.ListWorkers(listing)).queued_requests != count:
            pass
