"""Workers come, speak and go, over a real server."""

import grpc
import pytest

from headway.scheduler.v1 import scheduler_pb2 as pb
from tests.scheduler.clients import Edge, Running, Worker, hello, item, packed, place_request
from tests.scheduler.conftest import running

StatusCode = grpc.StatusCode


async def test_a_worker_is_welcomed_with_the_heartbeat(fleet: Running) -> None:
    worker = Worker(fleet.stub)
    await worker.say(hello=hello("a"))
    assert (await worker.hears()).welcome.heartbeat_ms == 1000
    (status,) = (await fleet.workers()).values()
    assert status.hello == hello("a")
    assert not status.HasField("report")


async def test_a_report_is_shown(fleet: Running) -> None:
    worker = await fleet.joined("a")
    timing = pb.PrefillTiming(request_id="r", computed_tokens=5, prefill_us=7)
    report = pb.Report(running_requests=2, kv_usage=0.5, steps=3, prefills=[timing])
    await worker.say(report=report)
    await fleet.until(lambda workers: workers["a"].report == report)


async def test_the_cache_is_followed(fleet: Running) -> None:
    worker = await fleet.joined("a")
    await worker.say(kv=pb.KvChange(sequence=0, snapshot=True, stored=packed(1, 2, 3)))
    await worker.say(kv=pb.KvChange(sequence=1, stored=packed(4), removed=packed(3)))
    await fleet.until(lambda workers: workers["a"].cached_blocks == 3)
    placed = await fleet.stub.Place(place_request(block_hashes=[1, 2]))
    assert placed.cached_tokens == 8


async def test_a_gap_ends_the_stream_and_a_snapshot_begins_anew(fleet: Running) -> None:
    worker = await fleet.joined("a")
    await worker.say(kv=pb.KvChange(sequence=0, stored=packed(1, 2)))
    await worker.say(kv=pb.KvChange(sequence=2, stored=packed(3)))
    code, details = await worker.ends()
    assert (code, "snapshot" in details) == (StatusCode.ABORTED, True)
    worker = await fleet.joined("a")
    await worker.say(kv=pb.KvChange(sequence=3, snapshot=True, stored=packed(9)))
    await fleet.until(lambda workers: workers["a"].cached_blocks == 1)


async def test_a_new_epoch_forgets_the_old_one(fleet: Running) -> None:
    worker = await fleet.joined("a")
    await worker.say(kv=pb.KvChange(sequence=0, stored=packed(1, 2)))
    await fleet.until(lambda workers: workers["a"].cached_blocks == 2)
    await worker.leave()
    await fleet.until(lambda workers: not workers)
    await fleet.joined("a", epoch=2)
    placed = await fleet.stub.Place(place_request(block_hashes=[1, 2]))
    assert (placed.epoch, placed.cached_tokens) == (2, 0)


async def test_a_second_worker_of_an_id_takes_the_firsts_place(fleet: Running) -> None:
    first = await fleet.joined("a")
    await fleet.joined("a", epoch=2, address="elsewhere:1")
    assert (await first.ends())[0] is StatusCode.ALREADY_EXISTS
    assert (await fleet.stub.Place(place_request())).address == "elsewhere:1"


async def test_a_silent_worker_is_out() -> None:
    async with running(worker_ttl_s=0.1, heartbeat_ms=10) as fleet:
        worker = await fleet.joined("a")
        assert (await worker.ends())[0] is StatusCode.DEADLINE_EXCEEDED
        assert await fleet.workers() == {}


async def test_a_dead_worker_is_out_at_once_and_watchers_know(fleet: Running) -> None:
    watching = fleet.stub.WatchFleet(pb.WatchFleetRequest())
    assert list((await watching.read()).workers) == []
    worker = await fleet.joined("a")
    (seen,) = (await watching.read()).workers
    assert (seen.worker_id, seen.address, list(seen.models)) == ("a", "a:1", ["m"])
    await worker.leave()
    assert list((await watching.read()).workers) == []
    watching.cancel()


async def test_a_watcher_sees_a_drain_and_no_load(fleet: Running) -> None:
    worker = await fleet.joined("a")
    watching = fleet.stub.WatchFleet(pb.WatchFleetRequest())
    assert not (await watching.read()).workers[0].draining
    await worker.say(report=pb.Report(running_requests=5))
    await fleet.until(lambda workers: workers["a"].HasField("report"))
    await fleet.stub.DrainWorker(pb.DrainWorkerRequest(worker_id="a"))
    assert (await watching.read()).workers[0].draining
    watching.cancel()


async def test_a_drained_worker_is_told_and_gets_nothing_new(fleet: Running) -> None:
    worker = await fleet.joined("a")
    await fleet.stub.Place(place_request("old"))
    drained = await fleet.stub.DrainWorker(pb.DrainWorkerRequest(worker_id="a"))
    assert drained.placed_requests == 1
    assert (await worker.hears()).HasField("drain")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await fleet.stub.Place(place_request("new"))
    assert refused.value.code() is StatusCode.UNAVAILABLE


async def test_a_worker_that_dies_turns_away_who_waits_for_it(fleet: Running) -> None:
    worker = await fleet.joined("a", max_running=1)
    edge = Edge(fleet.stub)
    assert set(await edge.asks(item("first"), item("second"))) == {"first"}
    await worker.leave()
    (result,) = (await edge.hears()).results
    assert result.request_id == "second"
    assert result.turned_away.reason == pb.TURNED_AWAY_REASON_FLEET_EMPTY
    assert result.turned_away.retry_after_ms == 1000


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        pytest.param([{"report": pb.Report()}], "hello", id="a-report-before-hello"),
        pytest.param([{}], "hello", id="an-empty-message"),
        pytest.param([{"hello": hello("")}], "worker_id", id="no-id"),
        pytest.param([{"hello": hello("a", models=[])}], "models", id="no-model"),
        pytest.param([{"hello": hello("a", block_size=0)}], "block_size", id="no-block-size"),
        pytest.param([{"hello": hello("a", kind=0)}], "kind", id="no-kind"),
        pytest.param([{"hello": hello("a")}, {"hello": hello("a")}], "once", id="hello-twice"),
        pytest.param(
            [{"hello": hello("a")}, {"kv": pb.KvChange(stored=b"odd")}],
            "8 bytes",
            id="half-a-hash",
        ),
    ],
)
async def test_a_broken_message_ends_the_stream(
    fleet: Running, messages: list[dict[str, object]], named: str
) -> None:
    worker = Worker(fleet.stub)
    for message in messages:
        await worker.say(**message)
    code, details = await worker.ends()
    assert code is StatusCode.INVALID_ARGUMENT
    assert named in details
    await fleet.until(lambda workers: not workers)
