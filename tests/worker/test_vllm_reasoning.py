"""A worker of a model that reasons, on real vLLM: what is told apart, and when a form holds."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from headway.worker.v1 import worker_pb2 as pb
from tests.worker.launched import Launched, launched
from tests.worker.test_vllm import prompt

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

NO_THINKING = json.dumps({"enable_thinking": False})
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}


@pytest.fixture(scope="module")
def worker(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(
        demo_model,
        tmp_path_factory.mktemp("worker") / "log",
        wait_s=200,
        WORKER_ENGINE="vllm",
        WORKER_MAX_MODEL_LEN="512",
        WORKER_KV_CACHE_BYTES=str(48 << 20),
        WORKER_REASONING_PARSER="qwen3",
    ) as started:
        yield started
        assert started.stop() == 0


def generate(
    worker: Launched, ids: list[int], parsing: pb.Parsing | None, **more: object
) -> pb.Delta:
    """All that a request told, in one delta."""
    sampling = pb.Sampling(temperature=0, max_tokens=64, **more)  # type: ignore[arg-type]
    request = pb.GenerateRequest(
        request_id="r", model="main", prompt_token_ids=ids, sampling=sampling, parsing=parsing
    )
    told = pb.Delta()
    for message in worker.stub.Generate(request):
        delta = message.delta
        told.text += delta.text
        told.reasoning += delta.reasoning
        for call in delta.tool_calls:
            if call.id:
                told.tool_calls.add(name=call.name)
            told.tool_calls[call.index].arguments += call.arguments
        told.finish.MergeFrom(delta.finish)
    return told


@pytest.fixture
def hello(tokenizer: Tokenizer) -> list[int]:
    return prompt(tokenizer, "Say hello.")


def test_it_reasons_unless_it_is_told_not_to(worker: Launched, hello: list[int]) -> None:
    plain = generate(worker, hello, None)
    assert plain.text
    assert generate(worker, hello, pb.Parsing()).reasoning == plain.text
    off = pb.Parsing(template_kwargs_json=NO_THINKING)
    assert generate(worker, hello, off).text == plain.text
    hidden = generate(worker, hello, pb.Parsing(hide_reasoning=True))
    assert (hidden.text, hidden.reasoning) == ("", "")


def test_a_form_holds_from_the_start_where_nobody_reasons(
    worker: Launched, hello: list[int]
) -> None:
    form = pb.Constraint(regex="(yes|no)")
    for parsing in (None, pb.Parsing(template_kwargs_json=NO_THINKING)):
        assert generate(worker, hello, parsing, constraint=form).text in ("yes", "no")


def test_a_form_waits_for_the_end_of_reasoning(worker: Launched, hello: list[int]) -> None:
    free = generate(worker, hello, pb.Parsing())
    held = generate(worker, hello, pb.Parsing(), constraint=pb.Constraint(regex="(yes|no)"))
    assert held.reasoning == free.reasoning


def test_a_call_that_has_to_be_made(worker: Launched, hello: list[int]) -> None:
    parsing = pb.Parsing(
        tools=[pb.Tool(name="f", parameters_json=json.dumps(SCHEMA))],
        tool_choice=pb.TOOL_CHOICE_REQUIRED,
        single_call=True,
        template_kwargs_json=NO_THINKING,
    )
    told = generate(worker, hello, parsing)
    [call] = told.tool_calls
    assert call.name == "f"
    assert isinstance(json.loads(call.arguments)["a"], bool)
    assert told.finish.reason == pb.FINISH_REASON_TOOL_CALLS
    assert told.text == ""
