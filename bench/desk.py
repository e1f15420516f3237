"""What a short request costs the scheduler, without gRPC: µs of CPU, as a row of markdown.

`python -m bench.desk [--workers 2,32,1000] [--requests N] [--batch N] [--profile]`

Batches go through the desk as an edge sends them: each brings the ends of the one before. Each
worker tells what its cache stored and evicted after some requests, and reports their prefills.
All messages are parsed and serialized. Prompts are 300 tokens, half of them share a beginning.
"""

import argparse
import asyncio
import cProfile
import pstats
import sys
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from random import Random
from struct import pack

import uvloop
from prometheus_client import CollectorRegistry
from xxhash import xxh3_64_intdigest

from bench.warm import BLOCK_TOKENS, MODEL, hello
from headway.scheduler.v1 import scheduler_pb2 as pb
from observability.telemetry import start_telemetry
from services.scheduler import wire
from services.scheduler.desk import Desk
from services.scheduler.metrics import Metrics
from services.scheduler.placement import POLICIES
from services.scheduler.reports import read_report
from services.scheduler.scheduler import Bounds, Scheduler

PROMPT_TOKENS = 300
BLOCKS, SHARED_BLOCKS = PROMPT_TOKENS // BLOCK_TOKENS, 4
CACHED_PROMPTS = 400
"""So many a worker caches; each one more evicts the oldest."""
GATHERED = 4
"""Requests of a worker until it tells of its cache."""
REPORTED = 32
"""Requests of a worker until it reports."""
REPEATS = 5


class Worker:
    """What a worker says of the requests that it gets."""

    def __init__(self, number: int) -> None:
        self.hello = hello(number, max_running=256)
        self._cached: deque[bytes] = deque()
        self._news: list[bytes] = []
        self._prefills: list[pb.PrefillTiming] = []
        self._sequence = 0

    def take(self, item: pb.PlaceItem) -> Iterator[bytes]:
        """Compute a request; yields what there is to tell of it."""
        self._news.append(item.block_hashes)
        name = item.request.request_id
        self._prefills.append(
            pb.PrefillTiming(request_id=name, computed_tokens=PROMPT_TOKENS, prefill_us=12_000)
        )
        if len(self._news) == GATHERED:
            yield pb.JoinRequest(kv=self._change()).SerializeToString()
        if len(self._prefills) == REPORTED:
            yield pb.JoinRequest(report=self._report()).SerializeToString()

    def _change(self) -> pb.KvChange:
        self._cached.extend(self._news)
        stored, self._news = b"".join(self._news), []
        over = max(0, len(self._cached) - CACHED_PROMPTS)
        # Those that are shared stay: whoever evicts them, somebody has just used them.
        ends = [self._cached.popleft()[8 * SHARED_BLOCKS :] for _ in range(over)]
        self._sequence += 1
        return pb.KvChange(sequence=self._sequence - 1, stored=stored, removed=b"".join(ends))

    def _report(self) -> pb.Report:
        prefills, self._prefills = self._prefills, []
        return pb.Report(
            prefills=prefills,
            steps=20,
            step_time_us=REPORTED * 12_000,
            generated_tokens=REPORTED,
        )


class Driven:
    """A scheduler in this process, and the fleet that has joined it."""

    def __init__(self, workers: int, seed: int) -> None:
        self._core = Scheduler(POLICIES["predicted"](Random(seed)), 1e9, Bounds())
        metrics = Metrics("predicted", CollectorRegistry())
        self._desk = Desk(self._core, metrics, start_telemetry("bench", {}), 60_000)
        self._owner, outbox = self._desk.open()
        self._answers = aiter(outbox)
        self._chance = Random(seed)
        self._numbers = iter(range(10**9))
        self._sent = 0
        self._ended: list[pb.FinishRequest] = []
        now_s = time.monotonic()
        each = [Worker(number) for number in range(workers)]
        self._workers = {worker.hello.worker_id: worker for worker in each}
        self._members = {
            worker.hello.worker_id: self._core.join(wire.read_hello(worker.hello), now_s)
            for worker in each
        }
        first = pb.PrefillTiming(computed_tokens=2048, prefill_us=80_000)
        for member in self._members.values():
            told = pb.Report(prefills=[first], steps=1, step_time_us=80_000)
            self._core.report(member, read_report(told), now_s)

    async def serve(self, requests: int, batch: int) -> dict[str, float]:
        """Seconds of CPU by what they went to."""
        spent: dict[str, float] = defaultdict(float)
        for _ in range(requests // batch):
            items = [self._item() for _ in range(batch)]
            self._sent += 1
            asked = pb.PlaceBatchesRequest(batch=self._sent, items=items, finished=self._ended)
            packed = asked.SerializeToString()
            begun_s = time.process_time()
            self._desk.batch(self._owner, pb.PlaceBatchesRequest.FromString(packed))
            placed_s = time.process_time()
            answer = (await anext(self._answers)).SerializeToString()
            spent["batches"] += placed_s - begun_s
            spent["answers"] += time.process_time() - placed_s
            results = pb.PlaceBatchesResponse.FromString(answer).results
            assert len(results) == batch, "some were not placed at once"
            self._ended = [_end(each.request_id) for each in results]
            for item, result in zip(items, results, strict=True):
                for said in self._workers[result.placed.worker_id].take(item):
                    self._hear(result.placed.worker_id, said, spent)
        return spent

    def _hear(self, worker_id: str, said: bytes, spent: dict[str, float]) -> None:
        begun_s = time.process_time()
        message, now_s = pb.JoinRequest.FromString(said), time.monotonic()
        member = self._members[worker_id]
        if message.HasField("kv"):
            assert self._core.change(member, wire.read_change(message.kv), now_s)
        else:
            self._desk.report(member, read_report(message.report), now_s)
            self._desk.settle(now_s)
        spent["workers"] += time.process_time() - begun_s

    def _item(self) -> pb.PlaceItem:
        number = next(self._numbers)
        shared = SHARED_BLOCKS if self._chance.random() < 0.5 else 0
        names = [f"shared {n}" for n in range(shared)]
        names += [f"{number} {n}" for n in range(BLOCKS - shared)]
        request = pb.PlaceRequest(
            request_id=f"{number:032x}",
            model=MODEL,
            prompt_tokens=PROMPT_TOKENS,
            max_tokens=1,
            block_size=BLOCK_TOKENS,
        )
        hashes = (xxh3_64_intdigest(name.encode()) for name in names)
        return pb.PlaceItem(request=request, block_hashes=pack(f"<{len(names)}Q", *hashes))


def main() -> int:
    """Print the rows."""
    arguments = _arguments()
    print("| workers | µs of CPU a request | batches | answers | of the workers |")
    print("|---:|---:|---:|---:|---:|")
    for workers in map(int, arguments.workers.split(",")):
        uvloop.run(_measure(workers, arguments))
    return 0


async def _measure(workers: int, arguments: argparse.Namespace) -> None:
    driven, requests = Driven(workers, arguments.seed), arguments.requests
    await driven.serve(requests // 2, arguments.batch)
    profile = cProfile.Profile()
    if arguments.profile:
        profile.enable()
    runs = [await driven.serve(requests, arguments.batch) async for _ in _times(REPEATS)]
    if arguments.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
    best = min(runs, key=lambda spent: sum(spent.values()))
    figures = [sum(best.values()), best["batches"], best["answers"], best["workers"]]
    cells = (f"{spent_s / requests * 1e6:.1f}" for spent_s in figures)
    print(f"| {workers} | {' | '.join(cells)} |", flush=True)


async def _times(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0.1)  # the machine is shared
        yield number


def _end(request_id: str) -> pb.FinishRequest:
    return pb.FinishRequest(
        request_id=request_id,
        completion_tokens=1,
        outcome=pb.FINISH_OUTCOME_COMPLETED,
        actual_ttft_ms=12.0,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.desk", description=__doc__)
    parser.add_argument("--workers", default="2,32,1000", metavar="N,…")
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
