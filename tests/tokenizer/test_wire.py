from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.tokenizer.v1 import tokenizer_pb2 as pb
from services.tokenizer.encoding import Report
from services.tokenizer.outcomes import (
    EmptyPrompt,
    OutsideVocabulary,
    Refusal,
    TemplateRefused,
    UnknownModel,
)
from services.tokenizer.prompt import Chat, Message, Prompt, Text, TokenIds, Tool, ToolCall
from services.tokenizer.wire import STATUS, read_prompt, write_refusal, write_timings

REFUSALS: list[Refusal] = [
    UnknownModel("x", ("a", "b")),
    TemplateRefused("why"),
    OutsideVocabulary(9, 5),
    EmptyPrompt(),
]


def test_every_refusal_has_a_reason_and_every_reason_a_status() -> None:
    assert {type(refusal) for refusal in REFUSALS} == set(get_args(Refusal))
    reasons = {write_refusal(refusal).reason for refusal in REFUSALS}
    assert reasons == set(STATUS)
    assert reasons == set(pb.RefusalReason.values()) - {pb.REFUSAL_REASON_UNSPECIFIED}


def test_an_unknown_model_names_the_known_ones() -> None:
    assert write_refusal(REFUSALS[0]).message == "the model 'x' is not held here; known are a, b"


@pytest.mark.parametrize(
    ("message", "given"),
    [
        pytest.param(pb.EncodeRequest(), TokenIds(()), id="nothing-is-no-ids"),
        pytest.param(pb.EncodeRequest(text=""), Text(""), id="text"),
        pytest.param(
            pb.EncodeRequest(token_ids=pb.TokenIds(ids=[1, 2])), TokenIds((1, 2)), id="ids"
        ),
        pytest.param(
            pb.EncodeRequest(chat=pb.Chat(messages=[pb.Message(role="user")])),
            Chat((Message("user"),)),
            id="what-is-absent-stays-absent",
        ),
    ],
)
def test_inputs_are_read(message: pb.EncodeRequest, given: Text | TokenIds | Chat) -> None:
    assert read_prompt(message) == Prompt("", given)


def test_a_whole_conversation_is_read() -> None:
    call = pb.ToolCall(id="1", name="f", arguments_json="{}")
    chat = pb.Chat(
        messages=[
            pb.Message(role="user", content="", name="Ann"),
            pb.Message(role="assistant", tool_calls=[call], reasoning_content=""),
            pb.Message(role="tool", content="4", tool_call_id="1"),
        ],
        tools=[pb.Tool(name="f", description="d", parameters_json="{}", strict=False)],
        add_generation_prompt=False,
        continue_final_message=True,
        template_kwargs_json="{}",
    )
    message = pb.EncodeRequest(model="m", chat=chat, adapter="a", cache_salt="s")
    assert read_prompt(message) == Prompt(
        "m",
        Chat(
            (
                Message("user", "", "Ann"),
                Message("assistant", tool_calls=(ToolCall("1", "f", "{}"),), reasoning_content=""),
                Message("tool", "4", tool_call_id="1"),
            ),
            (Tool("f", "d", "{}", False),),
            False,
            True,
            "{}",
        ),
        "a",
        "s",
    )


@given(steps=st.lists(st.integers(0, 10**9), min_size=5, max_size=5))
def test_the_timings_never_exceed_the_whole(steps: list[int]) -> None:
    received, started, rendered, ended, answered = (sum(steps[:n]) for n in range(1, 6))
    timings = write_timings(Report(EmptyPrompt(), started, rendered, ended), received, answered)
    parts = timings.queue_us + timings.render_us + timings.tokenize_us
    whole = (answered - received) // 1000
    assert whole - 2 <= parts <= whole
