"""Responses and Messages read as chats: what is said there, and how it is said here."""

import json
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from services.edge.apis.ask import Ask
from services.edge.apis.message_events import MESSAGES
from services.edge.apis.messages import read_count, read_messages
from services.edge.apis.openai import ChatBody, text_of
from services.edge.apis.refusals import Invalid
from services.edge.apis.response_events import ResponsesForm
from services.edge.apis.responses import ResponsesAsk, read_responses
from tests.edge.test_tools import SCHEMA

TOOL = {"type": "function", "name": "f", "parameters": SCHEMA}
CUSTOM = {"name": "f", "input_schema": SCHEMA}
HI = [{"role": "user", "content": "hi"}]
NO_SCHEMA = {"properties": {"a": {"type": "no"}}}


def responses(given: Any = "hi", **more: Any) -> Ask | Invalid:
    body = {"model": "m", "input": given, **more}
    read = read_responses(json.dumps(body).encode())
    if isinstance(read, Invalid):
        return read
    assert isinstance(read, ResponsesAsk)
    return read.continuing([], ResponsesForm(read.body, None))


def messages(turns: Any = HI, **more: Any) -> Ask | Invalid:
    body = {"model": "m", "messages": turns, "max_tokens": 5, **more}
    return read_messages(json.dumps(body).encode(), MESSAGES)


def chat_of(ask: Ask | Invalid) -> ChatBody:
    assert isinstance(ask, Ask), ask
    assert isinstance(ask.body, ChatBody)
    return ask.body


def told(chat: ChatBody) -> list[tuple[str, str | None]]:
    return [(each.role, text_of(each.content)) for each in chat.messages]


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_WORDS = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "text",
        "message",
        "user",
        "assistant",
        "input_text",
        "tool_use",
        "function_call",
        "reasoning",
        "id",
        "name",
        "input",
        "call_id",
        "arguments",
        "output",
    ]
)
_JSON = st.recursive(
    _LEAVES | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(), inner),
    max_leaves=12,
)


@for_all(_JSON, _JSON, _JSON)
def test_whatever_is_asked_is_read_or_refused(given: Any, format: Any, tools: Any) -> None:
    for asked in (
        responses(given, text={"format": format}, tools=tools),
        messages(given, system=format, tools=tools),
        read_count(json.dumps({"model": "m", "messages": [given], "tools": tools}).encode()),
    ):
        assert isinstance(asked, Ask | ChatBody | Invalid)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param("a", [("user", "a")], id="a-text"),
        pytest.param([{"role": "user", "content": "a"}], [("user", "a")], id="an-easy-message"),
        pytest.param(
            [{"type": "message", "role": "developer", "content": "a"}],
            [("developer", "a")],
            id="a-message",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "input_text", "text": x} for x in "ab"]}],
            [("user", "a\nb")],
            id="parts",
        ),
        pytest.param(
            [
                {
                    "id": "msg_1",
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "content": [
                        {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}
                    ],
                },
                {"role": "user", "content": "b"},
            ],
            [("assistant", "a"), ("user", "b")],
            id="an-answer-given-back",
        ),
        pytest.param(
            [
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "x"},
            ],
            [("assistant", None), ("tool", "x")],
            id="a-call-and-its-output",
        ),
    ],
)
def test_what_a_response_is_given(given: Any, said: list[tuple[str, str | None]]) -> None:
    assert told(chat_of(responses(given))) == said


def test_a_turn_of_text_thought_and_calls_is_one_message() -> None:
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    thought = {"type": "reasoning_text", "text": "hm"}
    chat = chat_of(
        responses(
            [
                {"type": "reasoning", "id": "rs_1", "summary": [], "content": [thought]},
                {"role": "assistant", "content": "Let me see."},
                {**call, "call_id": "c0"},
                {**call, "call_id": "c1"},
                {"type": "function_call_output", "call_id": "c0", "output": "x"},
            ]
        )
    )
    turn, result = chat.messages
    assert (turn.content, turn.reasoning_content) == ("Let me see.", "hm")
    assert [each.id for each in turn.tool_calls or ()] == ["c0", "c1"]
    assert result.tool_call_id == "c0"


def test_instructions_come_before_what_is_continued() -> None:
    read = read_responses(b'{"model":"m","input":"b","instructions":"Be brief."}')
    assert isinstance(read, ResponsesAsk)
    earlier = chat_of(responses("a")).messages
    ask = read.continuing(earlier, ResponsesForm(read.body, None))
    assert told(chat_of(ask)) == [("system", "Be brief."), ("user", "a"), ("user", "b")]


def test_a_responses_parameters_are_a_chats() -> None:
    form = {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}
    chat = chat_of(
        responses(
            max_output_tokens=7,
            text={"format": form},
            tools=[TOOL],
            tool_choice={"type": "function", "name": "f"},
            parallel_tool_calls=False,
            reasoning={"effort": "low"},
            include=["message.output_text.logprobs"],
            top_logprobs=2,
            safety_identifier="s",
            service_tier="flex",
            stream=True,
            stream_options={"include_obfuscation": False},
        )
    )
    assert chat.max_completion_tokens == 7
    assert (chat.logprobs, chat.top_logprobs) == (True, 2)
    assert (chat.reasoning_effort, chat.safety_identifier) == ("low", "s")
    assert (chat.service_tier, chat.stream, chat.parallel_tool_calls) == ("flex", True, False)
    assert [each.function.name for each in chat.tools or ()] == ["f"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"given": []}, "input"),
        ({"given": [{"role": "wizard", "content": "a"}]}, "input[0].role"),
        ({"given": [{"role": "user", "content": [{"type": "input_image"}]}]}, None),
        ({"given": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"given": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include[0]"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {}}, "stream_options"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**TOOL, "parameters": NO_SCHEMA}]}, "tools[0].parameters"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": NO_SCHEMA}}},
            "text.format.schema",
        ),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_tool_calls": 1}, "max_tool_calls"),
        ({"conversation": "x"}, "conversation"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"top_k": -2}, "top_k"),
        ({"n": 2}, "n"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_response_refuses(more: dict[str, Any], param: str | None) -> None:
    refused = responses(**more)
    assert isinstance(refused, Invalid)
    assert refused.param == (param or "input[0].content[0].type")


def test_blocks_are_messages() -> None:
    chat = chat_of(
        messages(
            [
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "b"},
                        {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "c"},
                        {"type": "text", "text": "d"},
                    ],
                },
            ],
            system=[{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        )
    )
    assert told(chat) == [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "b"),
        ("tool", ""),
        ("user", "d"),
    ]
    [call] = chat.messages[2].tool_calls or []
    assert (call.id, call.function.arguments) == ("c", '{"x":1}')
    assert chat.messages[3].tool_call_id == "c"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"content": "x"}, "x"),
        ({"content": "x", "is_error": False}, "x"),
        ({"content": "x", "is_error": True}, "Error: x"),
        ({"content": [{"type": "text", "text": "x"}], "is_error": True}, "Error:\nx"),
        ({"is_error": True}, "Error: "),
    ],
)
def test_a_call_that_failed_says_so(result: dict[str, Any], said: str) -> None:
    block = {"type": "tool_result", "tool_use_id": "c", **result}
    [message] = chat_of(messages([{"role": "user", "content": [block]}])).messages
    assert text_of(message.content) == said


@pytest.mark.parametrize(
    ("choice", "chats", "parallel"),
    [
        ({"type": "auto"}, "auto", None),
        ({"type": "any"}, "required", None),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "none"}, "none", None),
    ],
)
def test_the_choice_of_tools(choice: dict[str, Any], chats: str, parallel: bool | None) -> None:
    chat = chat_of(messages(tools=[CUSTOM], tool_choice=choice))
    assert (chat.tool_choice, chat.parallel_tool_calls) == (chats, parallel)


def test_a_messages_parameters_are_a_chats() -> None:
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    chat = chat_of(
        messages(
            stop_sequences=["x"],
            temperature=0.5,
            top_k=3,
            metadata={"user_id": "u"},
            thinking={"type": "disabled"},
            output_config=form,
            stream=True,
        )
    )
    assert (chat.max_tokens, chat.stop, chat.temperature, chat.top_k) == (5, ["x"], 0.5, 3)
    assert (chat.user, chat.stream, chat.include_reasoning) == ("u", True, False)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"turns": []}, "messages"),
        ({"turns": [{"role": "user", "content": [{"type": "image"}]}]}, None),
        (
            {
                "turns": [
                    {
                        "role": "user",
                        "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}],
                    }
                ]
            },
            "messages[0]",
        ),
        (
            {
                "turns": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}],
                    }
                ]
            },
            "messages[0]",
        ),
        ({"max_tokens": None}, "max_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"),
        ({"temperature": 1.5}, "temperature"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, None),
        ({"tools": [{**CUSTOM, "input_schema": NO_SCHEMA}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"output_config": {"effort": "low"}}, "output_config.effort"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": NO_SCHEMA}}},
            "output_config.format.schema",
        ),
        ({"mcp_servers": [{}]}, "mcp_servers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_message_refuses(more: dict[str, Any], param: str | None) -> None:
    refused = messages(**more)
    assert isinstance(refused, Invalid)
    assert param is None or refused.param == param


def test_what_is_counted_is_what_would_be_asked() -> None:
    asked = {"model": "m", "messages": HI, "system": "s", "tools": [CUSTOM]}
    counted = read_count(json.dumps(asked).encode())
    assert isinstance(counted, ChatBody)
    assert told(counted) == told(chat_of(messages(system="s")))
    assert counted.tools is not None
