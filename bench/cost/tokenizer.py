"""The tokenizer: batches of chats, from their bytes to the answer's, on one thread.

Every prompt is another text, so none is found whole in the cache of segments; the model is the
demo's, with the encoder that the service chooses for it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle

import structlog
from prometheus_client import CollectorRegistry

from bench.cost.prompts import MODEL, text
from bench.cost.workload import Run
from command.models import demo_model
from headway.tokenizer.v1 import tokenizer_pb2 as pb
from observability.telemetry import start_telemetry
from services.tokenizer.batch import Encodings
from services.tokenizer.config import Config
from services.tokenizer.loading import load_models
from services.tokenizer.metrics import Metrics

BATCH = 8
BATCHES = 64


@asynccontextmanager
async def request() -> AsyncIterator[Run]:
    """A unit is a chat of about 300 tokens."""
    models = load_models(Config(models=f"{MODEL}={demo_model()}"), structlog.get_logger())
    metrics = Metrics(CollectorRegistry())
    encodings = Encodings(models, metrics, start_telemetry("tokenizer", {}))
    batches = (_batch(number).SerializeToString() for number in range(BATCHES))
    waiting = cycle(list(batches))
    answer = pb.EncodeBatchesResponse()

    async def run(units: int) -> None:
        nonlocal answer
        for _ in range(units // BATCH):
            asked = pb.EncodeBatchesRequest.FromString(next(waiting))
            batch = encodings.encode(asked.items, 0)
            answer = pb.EncodeBatchesResponse(batch=asked.batch, results=batch.results)
            answer.SerializeToString()

    yield run
    assert all(len(each.encoded.token_ids) >= 4 * 280 for each in answer.results)


def _batch(number: int) -> pb.EncodeBatchesRequest:
    items = [
        pb.EncodeRequest(
            model=MODEL,
            chat=pb.Chat(messages=[pb.Message(role="user", content=text(number * BATCH + place))]),
        )
        for place in range(BATCH)
    ]
    return pb.EncodeBatchesRequest(batch=number + 1, items=items)
