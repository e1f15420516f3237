"""Which batches are brief enough for the event loop."""

import pytest
from prometheus_client import CollectorRegistry

from headway.tokenizer.v1 import tokenizer_pb2 as pb
from observability.telemetry import start_telemetry
from services.tokenizer.batch import Encodings
from services.tokenizer.metrics import Metrics
from services.tokenizer.models import Models

WORDS = "some words of a text that is not long, and others. "


def chat(*contents: str) -> pb.EncodeRequest:
    messages = [pb.Message(role="user", content=content) for content in contents]
    return pb.EncodeRequest(model="smollm2", chat=pb.Chat(messages=messages))


def text(content: str, model: str) -> pb.EncodeRequest:
    return pb.EncodeRequest(model=model, text=content)


@pytest.mark.parametrize(
    ("batch", "is_brief"),
    [
        pytest.param([chat(WORDS * 30)], True, id="300-tokens"),
        pytest.param([chat(WORDS * 25)] * 2, True, id="twice-300-tokens"),
        pytest.param([chat(WORDS * 30)] * 4, False, id="four-times-300-tokens"),
        pytest.param([chat(WORDS * 120)], False, id="a-long-prompt"),
        pytest.param([chat("Hi")] * 4, True, id="four-short-prompts"),
        pytest.param([chat("Hi")] * 5, False, id="more-prompts"),
        pytest.param([chat(*["Hi"] * 20)], False, id="many-short-messages"),
        pytest.param([text(WORDS, "minilm")], True, id="a-sentence-for-the-slow-library"),
        pytest.param([text(WORDS * 6, "minilm")], False, id="a-paragraph-for-the-slow-library"),
        pytest.param([text(WORDS, "gpt")], True, id="an-unknown-model"),
    ],
)
def test_a_batch_is_brief(models: Models, batch: list[pb.EncodeRequest], is_brief: bool) -> None:
    telemetry = start_telemetry("test", {})
    encodings = Encodings(models, Metrics(CollectorRegistry()), telemetry)
    assert encodings.is_brief(batch) is is_brief
