"""What encoding costs: `python -m bench.encode`, in process; with `--served` of a real tokenizer.

CPU microseconds a request. In process: from the bytes of a batch of one to those of its answer,
the quickest of some rounds. Served: the whole process, from /proc, under an edge's own batches.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from tokenizers import Tokenizer

from bench.prompts import LONG, SHORT, Prompts
from bench.served import Load, Served, served
from headway.tokenizer.v1 import tokenizer_pb2 as pb
from observability.telemetry import start_logs, start_telemetry
from services.tokenizer.batch import Encodings
from services.tokenizer.config import Config
from services.tokenizer.encoder import ReferenceEncoder
from services.tokenizer.loading import load_models
from services.tokenizer.metrics import Metrics
from services.tokenizer.models import Models
from services.tokenizer.vocabulary import Vocabulary

MODEL = "smollm2"
RATES = {"short": 1000.0, "long": 200.0, "turn 8": 200.0}
"""Requests a second of each load on a real process."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one kind of request."""

    case: str
    how: str
    tokens: int
    us: float
    render_us: float
    tokenize_us: float


class Subject:
    """A tokenizer without its gRPC."""

    def __init__(self, models: Models) -> None:
        metrics = Metrics(CollectorRegistry())
        self._encodings = Encodings(models, metrics, start_telemetry("bench", {}))

    def answer(self, asked: bytes) -> bytes:
        """One batch, as gRPC hands it over and takes it back."""
        request = pb.EncodeBatchesRequest.FromString(asked)
        batch = self._encodings.encode(request.items, time.monotonic_ns())
        response = pb.EncodeBatchesResponse(batch=request.batch, results=batch.results)
        return response.SerializeToString()

    def cost(self, case: str, how: str, requests: Sequence[pb.EncodeRequest]) -> Cost:
        """The mean over these requests."""
        asked = [_batch(request) for request in requests]
        before_ns = time.process_time_ns()
        answers = [self.answer(each) for each in asked]
        took_ns = time.process_time_ns() - before_ns
        encoded = [pb.EncodeBatchesResponse.FromString(each).results[0].encoded for each in answers]
        count = len(encoded)
        return Cost(
            case,
            how,
            sum(len(each.token_ids) // 4 for each in encoded) // count,
            took_ns / count / 1e3,
            sum(each.timings.render_us for each in encoded) / count,
            sum(each.timings.tokenize_us for each in encoded) / count,
        )


@dataclass(frozen=True, slots=True)
class Subjects:
    """The same model, encoded in three ways."""

    cached: Subject
    plain: Subject
    reference: Subject


def subjects(folder: str) -> Subjects:
    """As it is served, without caches, and by the library that defines the ids."""
    return Subjects(
        Subject(_models(folder)),
        Subject(_models(folder, segment_cache_bytes=0, hash_cache_bytes=0)),
        Subject(_by_tokenizers(_models(folder), folder)),
    )


def in_process(subjects: Subjects, prompts: Prompts, requests: int) -> Iterator[Cost]:
    """All cases once."""
    cached, plain, reference = subjects.cached, subjects.plain, subjects.reference
    for subject in (cached, plain, reference):
        subject.cost("", "", [prompts.single(SHORT) for _ in range(50)])
    for tokens in (SHORT, LONG):
        case = f"{tokens} tokens"
        asked = [prompts.single(tokens) for _ in range(requests)]
        yield cached.cost(case, "new text", asked)
        yield cached.cost(case, "the same again", asked)
        yield plain.cost(case, "caches off", asked)
        yield reference.cost(case, "tokenizers, no cache", asked[:20])
    talks = [prompts.conversation() for _ in range(requests // 4)]
    for turn in zip(*talks, strict=True):  # as clients do: turn by turn, one after the other
        grown = cached.cost("turn 8", "grown turn by turn", turn)
    yield grown
    last = [talk[-1] for talk in talks]
    yield plain.cost("turn 8", "caches off", last)
    yield reference.cost("turn 8", "tokenizers, no cache", last[:20])


def quickest(rounds: Sequence[Sequence[Cost]]) -> list[Cost]:
    """Of each case, the round that took the least."""
    return [min(costs, key=lambda cost: cost.us) for costs in zip(*rounds, strict=True)]


def table(costs: Sequence[Cost]) -> str:
    """As markdown."""
    rows = [
        f"| {cost.case} | {cost.how} | {cost.tokens:,} | {cost.us:,.0f} | {cost.render_us:,.0f} "
        f"| {cost.tokenize_us:,.0f} |"
        for cost in costs
    ]
    head = (
        "| case | how | tokens | CPU µs | render, µs | encode and hash, µs |",
        "|---|---|---:|---:|---:|---:|",
    )
    return "\n".join((*head, *rows))


def served_table(loads: Sequence[Served]) -> str:
    """As markdown."""
    rows = [
        f"| {load.case} | {load.requests_a_s:,.0f} | {load.cpu_us:,.0f} | {load.batch_prompts:.2f} "
        f"| {load.p50_ms:.2f} | {load.p99_ms:.2f} |"
        for load in loads
    ]
    head = (
        "| case | requests/s | CPU µs a request | prompts a batch | p50, ms | p99, ms |",
        "|---|---:|---:|---:|---:|---:|",
    )
    return "\n".join((*head, *rows))


def main() -> int:
    """Measure and print."""
    arguments = _arguments()
    if arguments.served:
        loads = [
            Load(arguments.model, case, rate, arguments.seconds, arguments.seed)
            for case, rate in RATES.items()
        ]
        done = [asyncio.run(served(load)) for load in loads]
        print(json.dumps([asdict(each) for each in done]) if arguments.json else served_table(done))
        return 0
    models, prompts = subjects(arguments.model), Prompts(MODEL, arguments.seed)
    rounds = [
        list(in_process(models, prompts, arguments.requests)) for _ in range(arguments.rounds)
    ]
    costs = quickest(rounds)
    print(json.dumps([asdict(cost) for cost in costs]) if arguments.json else table(costs))
    return 0


def _models(folder: str, **settings: Any) -> Models:
    return load_models(Config(models=f"{MODEL}={folder}", **settings), start_logs("bench"))


def _by_tokenizers(models: Models, folder: str) -> Models:
    tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
    vocabulary = Vocabulary(tokenizer, ReferenceEncoder(tokenizer))
    return Models([replace(model, vocabulary=vocabulary) for model in models])


def _batch(request: pb.EncodeRequest) -> bytes:
    return pb.EncodeBatchesRequest(batch=1, items=[request]).SerializeToString()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.encode", description=__doc__)
    parser.add_argument("--model", default=str(Path.home() / ".cache/headway/models/smollm2"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=200, help="of each case, in process")
    parser.add_argument("--rounds", type=int, default=5, help="in process")
    parser.add_argument("--json", action="store_true", help="not as markdown")
    parser.add_argument("--served", action="store_true", help="load a real process instead")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
