"""Locust users: one for HTTP, one for each inner service's plain RPC.

gRPC's own threads must be told of gevent before the first channel is made; importing this
module does so, which is why only the load tool imports it.
"""

import random
import time
import uuid
from abc import abstractmethod
from typing import Any, ClassVar

import grpc
import grpc.experimental.gevent
from locust import HttpUser, User, task

from headway.scheduler.v1 import scheduler_pb2 as scheduler
from headway.scheduler.v1 import scheduler_pb2_grpc as scheduler_rpc
from headway.tokenizer.v1 import tokenizer_pb2 as tokenizer
from headway.tokenizer.v1 import tokenizer_pb2_grpc as tokenizer_rpc
from headway.worker.v1 import worker_pb2 as worker
from headway.worker.v1 import worker_pb2_grpc as worker_rpc

grpc.experimental.gevent.init_gevent()

WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world")


class Plan:
    """What every user of this run asks for."""

    model = "smollm2"
    prompt_tokens = 128
    max_tokens = 16
    chance = random.Random(1)

    @classmethod
    def text(cls) -> str:
        """A prompt of about `prompt_tokens` tokens."""
        return " ".join(cls.chance.choices(WORDS, k=cls.prompt_tokens))


class ChatUser(HttpUser):
    """Asks for whole chat completions."""

    @task
    def chat(self) -> None:
        """One chat."""
        body = {
            "model": Plan.model,
            "messages": [{"role": "user", "content": Plan.text()}],
            "max_tokens": Plan.max_tokens,
        }
        self.client.post("/v1/chat/completions", json=body)


class GrpcUser(User):
    """Calls one plain RPC; `host` is its host:port."""

    abstract = True
    name: ClassVar[str]

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.channel = grpc.insecure_channel(self.host or environment.host)

    @abstractmethod
    def call(self) -> None:
        """Make one call, to its end."""

    @task
    def measured(self) -> None:
        """One call, reported to locust."""
        started_s, error = time.perf_counter(), None
        try:
            self.call()
        except grpc.RpcError as failure:
            error = failure
        self.environment.events.request.fire(
            request_type="grpc",
            name=self.name,
            response_time=(time.perf_counter() - started_s) * 1e3,
            response_length=0,
            exception=error,
            context={},
        )

    def on_stop(self) -> None:
        """Give the channel back."""
        self.channel.close()


class EncodeUser(GrpcUser):
    """Encodes a chat."""

    name = "Encode"

    def call(self) -> None:
        """One Encode."""
        chat = tokenizer.Chat(messages=[tokenizer.Message(role="user", content=Plan.text())])
        stub = tokenizer_rpc.TokenizerServiceStub(self.channel)
        stub.Encode(tokenizer.EncodeRequest(model=Plan.model, chat=chat))


class PlaceUser(GrpcUser):
    """Places a request, and gives the placement back."""

    name = "Place"

    def call(self) -> None:
        """One Place and its Finish."""
        stub = scheduler_rpc.SchedulerServiceStub(self.channel)
        request_id = uuid.uuid4().hex
        stub.Place(
            scheduler.PlaceRequest(
                request_id=request_id,
                model=Plan.model,
                prompt_tokens=Plan.prompt_tokens,
                max_tokens=Plan.max_tokens,
            )
        )
        stub.Finish(scheduler.FinishRequest(request_id=request_id))


class GenerateUser(GrpcUser):
    """Generates from random tokens."""

    name = "Generate"

    def call(self) -> None:
        """One Generate, to its last token."""
        ids = [Plan.chance.randrange(100, 40_000) for _ in range(Plan.prompt_tokens)]
        request = worker.GenerateRequest(
            request_id=uuid.uuid4().hex,
            model=Plan.model,
            prompt_token_ids=ids,
            sampling=worker.Sampling(temperature=0, max_tokens=Plan.max_tokens),
        )
        for _ in worker_rpc.WorkerServiceStub(self.channel).Generate(request):
            pass


USERS: dict[str, type[User]] = {
    "chat": ChatUser,
    "encode": EncodeUser,
    "place": PlaceUser,
    "generate": GenerateUser,
}
