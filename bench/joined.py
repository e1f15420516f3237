"""Many workers in one process that speak the real `Join` and run nothing.

`python -m bench.joined --scheduler HOST:PORT --workers N [--seed N]`: each says hello, sends a
snapshot of its cache, and then a report twice in every heartbeat, as real workers do.
"""

import argparse
import asyncio
from collections.abc import Sequence
from struct import pack
from typing import TYPE_CHECKING

import grpc
import uvloop

from bench.warm import WarmFleet, hello
from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from services.serving import CHANNEL_OPTIONS

if TYPE_CHECKING:  # the stubs have it, the generated code does not
    from headway.scheduler.v1.scheduler_pb2_grpc import SchedulerServiceAsyncStub

HOSTS = 50
"""Connections; real workers have one each."""


async def main(scheduler: str, workers: int, seed: int) -> None:
    """Be the fleet until stopped."""
    caches = WarmFleet(workers, seed).caches
    # A channel of its own needs an argument of its own: gRPC shares equal ones.
    channels = [
        grpc.aio.insecure_channel(scheduler, options=(*CHANNEL_OPTIONS, ("headway.host", host)))
        for host in range(min(HOSTS, workers))
    ]
    stubs = [rpc.SchedulerServiceStub(channel) for channel in channels]
    async with asyncio.TaskGroup() as group:
        for number, cache in enumerate(caches):
            group.create_task(_work(stubs[number % len(stubs)], number, cache, workers))


async def _work(
    stub: "SchedulerServiceAsyncStub", number: int, cache: Sequence[int], workers: int
) -> None:
    call = stub.Join(wait_for_ready=True)  # the scheduler may be starting yet
    await call.write(pb.JoinRequest(hello=hello(number, max_running=64)))
    welcome = await call.read()
    assert isinstance(welcome, pb.JoinResponse)
    interval_s = welcome.welcome.heartbeat_ms / 2000
    stored = pack(f"<{len(cache)}Q", *cache)
    await call.write(pb.JoinRequest(kv=pb.KvChange(snapshot=True, stored=stored)))
    await asyncio.sleep(interval_s * number / workers)  # they do not all report at one instant
    while True:
        await call.write(pb.JoinRequest(report=_report()))
        await asyncio.sleep(interval_s)


def _report() -> pb.Report:
    prefill = pb.PrefillTiming(request_id="-", computed_tokens=2048, prefill_us=80_000)
    return pb.Report(prefills=[prefill], steps=60, step_time_us=480_000, generated_tokens=60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.joined", description=__doc__)
    parser.add_argument("--scheduler", required=True, metavar="HOST:PORT")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    uvloop.run(main(arguments.scheduler, arguments.workers, arguments.seed))
