"""Tools and reasoning at the door, and how calls go out."""

import json
from typing import Any

import pytest

from headway.worker.v1 import worker_pb2 as pb
from services.edge import resume
from services.edge.apis.openai import ChatBody, parse_chat
from services.edge.apis.refusals import Invalid
from services.edge.apis.tools import TOOLS_LIMIT
from tests.edge.conftest import Stage
from tests.edge.test_generating import events_of

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, **more}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def read(**more: Any) -> ChatBody | Invalid:
    messages = [{"role": "user", "content": "Hi."}]
    return parse_chat(json.dumps({"model": "m", "messages": messages, **more}).encode())


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"tools": [tool()]}, id="a-tool"),
        pytest.param({"tools": [tool(strict=True)], "tool_choice": "required"}, id="required"),
        pytest.param({"tools": [tool()], "tool_choice": named("weather")}, id="named"),
        pytest.param({"tools": [{"type": "function", "function": {"name": "f"}}]}, id="no-schema"),
        pytest.param({"tools": [tool(parameters={})]}, id="an-empty-schema"),
        pytest.param({"tools": [tool(f"f{each}") for each in range(TOOLS_LIMIT)]}, id="the-most"),
        pytest.param({"tool_choice": "none"}, id="none-without-tools"),
        pytest.param({"tools": None, "tool_choice": None}, id="nulls"),
    ],
)
def test_what_is_taken(more: dict[str, Any]) -> None:
    assert isinstance(read(**more), ChatBody)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        pytest.param({"tools": []}, "tools", id="no-tools"),
        pytest.param({"tools": [tool("f")] * 2}, "tools[1].function.name", id="one-name-twice"),
        pytest.param({"tools": [tool("a b")]}, "tools[0].function.name", id="a-space"),
        pytest.param({"tools": [tool("f\n")]}, "tools[0].function.name", id="a-line-end"),
        pytest.param({"tools": [tool("f" * 65)]}, "tools[0].function.name", id="a-long-name"),
        pytest.param({"tools": [tool("")]}, "tools[0].function.name", id="an-empty-name"),
        pytest.param(
            {"tools": [tool(f"f{each}") for each in range(TOOLS_LIMIT + 1)]}, "tools", id="too-many"
        ),
        pytest.param({"tools": [{"type": "custom"}]}, "tools[0].type", id="another-type"),
        pytest.param({"tools": [{"type": "function"}]}, "tools[0].function", id="no-function"),
        pytest.param(
            {"tools": [tool(parameters={"type": "array"})]},
            "tools[0].function.parameters",
            id="arguments-that-are-no-object",
        ),
        pytest.param(
            {"tools": [tool(parameters={"properties": {"a": {"type": "no"}}})]},
            "tools[0].function.parameters",
            id="no-schema",
        ),
        pytest.param(
            {"tools": [tool()], "tool_choice": named("other")}, "tool_choice", id="an-unknown-name"
        ),
        pytest.param({"tools": [tool()], "tool_choice": "any"}, "tool_choice", id="no-choice"),
        pytest.param({"tool_choice": "auto"}, "tool_choice", id="auto-without-tools"),
        pytest.param({"tool_choice": named("f")}, "tool_choice", id="named-without-tools"),
        pytest.param(
            {"parallel_tool_calls": True}, "parallel_tool_calls", id="parallel-without-tools"
        ),
        pytest.param({"reasoning_effort": "a lot"}, "reasoning_effort", id="effort"),
    ],
)
def test_what_is_refused_names_what_is_at_fault(more: dict[str, Any], param: str) -> None:
    answer = read(**more)
    assert isinstance(answer, Invalid)
    assert answer.param == param


async def test_tools_reach_the_template_and_the_worker(stage: Stage) -> None:
    weather = tool(description="Tells the weather.", strict=True)
    await stage.chat(
        tools=[weather, tool("clock")],
        tool_choice=named("clock"),
        parallel_tool_calls=False,
        include_reasoning=False,
        reasoning_effort="low",
        chat_template_kwargs={"enable_thinking": False},
    )
    [chat] = [item.chat for each in stage.tokenizers for item in each.asked]
    assert chat.reasoning_effort == "low"
    shown = chat.tools[0]
    assert (shown.name, shown.description, shown.strict) == ("weather", "Tells the weather.", True)
    assert json.loads(shown.parameters_json) == SCHEMA
    parsing = stage.workers[0].asked[0].parsing
    assert [each.name for each in parsing.tools] == ["weather", "clock"]
    assert [each.strict for each in parsing.tools] == [True, False]
    assert parsing.tool_choice == pb.TOOL_CHOICE_NAMED
    assert parsing.tool_name == "clock"
    assert parsing.single_call
    assert parsing.hide_reasoning
    assert json.loads(parsing.template_kwargs_json) == {
        "enable_thinking": False,
        "reasoning_effort": "low",
    }


@pytest.mark.parametrize(
    ("more", "choice"),
    [
        ({}, pb.TOOL_CHOICE_AUTO),
        ({"tool_choice": "auto"}, pb.TOOL_CHOICE_AUTO),
        ({"tool_choice": "none"}, pb.TOOL_CHOICE_NONE),
        ({"tool_choice": "required"}, pb.TOOL_CHOICE_REQUIRED),
    ],
)
async def test_the_choice_is_auto_unless_it_is_said(stage: Stage, more: Any, choice: int) -> None:
    await stage.chat(tools=[tool()], **more)
    assert stage.workers[0].asked[0].parsing.tool_choice == choice


async def test_a_plain_chat_may_reason_and_a_completion_is_text(stage: Stage) -> None:
    await stage.chat()
    await stage.client.post("/v1/completions", json={"model": "story", "prompt": "a"})
    chat, completion = stage.workers[0].asked
    assert chat.HasField("parsing")
    assert not chat.parsing.tools
    assert not completion.HasField("parsing")


def call(index: int, arguments: str, **first: str) -> pb.ToolCallDelta:
    return pb.ToolCallDelta(index=index, arguments=arguments, **first)


TOLD = [
    pb.Delta(token_ids=[1], reasoning="Hm", started=pb.Started()),
    pb.Delta(token_ids=[2], reasoning=".", text="Wait. "),
    pb.Delta(token_ids=[3], tool_calls=[call(0, '{"city"', id="a", name="weather")]),
    pb.Delta(token_ids=[4], tool_calls=[call(0, ": 1}"), call(1, "", id="b", name="clock")]),
    pb.Delta(
        token_ids=[5],
        tool_calls=[call(1, "{}")],
        finish=pb.Finish(reason=pb.FINISH_REASON_TOOL_CALLS, completion_tokens=5),
    ),
]
CALLS = [
    {
        "id": "a",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": 1}'},
    },
    {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
]


async def test_calls_of_a_body_are_whole(stage: Stage) -> None:
    stage.workers[0].tells = TOLD
    [choice] = (await stage.chat(tools=[tool(), tool("clock")])).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Wait. ",
        "refusal": None,
        "reasoning": "Hm.",
        "reasoning_content": "Hm.",
        "tool_calls": CALLS,
    }


async def test_beside_calls_no_content_is_null(stage: Stage) -> None:
    stage.workers[0].tells = [pb.Delta(started=pb.Started()), *TOLD[2:]]
    [choice] = (await stage.chat(tools=[tool(), tool("clock")])).json()["choices"]
    assert choice["message"]["content"] is None


async def test_calls_of_a_stream_begin_with_a_name_and_go_on_with_arguments(stage: Stage) -> None:
    stage.workers[0].tells = TOLD
    response = await stage.chat(tools=[tool(), tool("clock")], stream=True)
    choices = [event["choices"][0] for event in events_of(response.text)]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"reasoning": "Hm", "reasoning_content": "Hm"},
        {"reasoning": ".", "reasoning_content": "."},
        {"content": "Wait. "},
        {
            "tool_calls": [
                {"index": 0, **CALLS[0], "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {"tool_calls": [{"index": 1, **CALLS[1], "function": {"name": "clock", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert choices[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("parsing", "goes_on"),
    [
        pytest.param(None, True, id="text"),
        pytest.param(pb.Parsing(), True, id="no-tools"),
        pytest.param(pb.Parsing(tool_choice=pb.TOOL_CHOICE_AUTO), True, id="auto"),
        pytest.param(pb.Parsing(tool_choice=pb.TOOL_CHOICE_REQUIRED), False, id="required"),
        pytest.param(pb.Parsing(tool_choice=pb.TOOL_CHOICE_NAMED), False, id="named"),
        pytest.param(
            pb.Parsing(tool_choice=pb.TOOL_CHOICE_AUTO, single_call=True), False, id="one-call"
        ),
        pytest.param(
            pb.Parsing(tool_choice=pb.TOOL_CHOICE_AUTO, tools=[pb.Tool(strict=True)]),
            False,
            id="strict",
        ),
        pytest.param(
            pb.Parsing(tool_choice=pb.TOOL_CHOICE_NONE, tools=[pb.Tool(strict=True)]),
            True,
            id="strict-but-not-called",
        ),
    ],
)
def test_a_stream_whose_calls_are_held_to_a_form_cannot_go_on(
    parsing: pb.Parsing | None, goes_on: bool
) -> None:
    assert (resume.obstacle(pb.Sampling(choices=1), parsing) is None) is goes_on
