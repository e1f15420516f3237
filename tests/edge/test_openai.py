"""Every refusal of a body, as a rule; and that nothing is dropped."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.apis.ask import Ask, chat_ask, completion_ask
from services.edge.apis.openai import ASKS_NOTHING, ChatBody, parse_chat
from services.edge.apis.refusals import Invalid
from services.edge.workers import Served

USER = {"role": "user", "content": "hi"}
SAID = {"role": "assistant", "content": "hello"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OBJECT = {"response_format": {"type": "json_object"}}


def chat(**more: Any) -> ChatBody | Invalid:
    return parse_chat(json.dumps({"model": "m", "messages": [USER], **more}).encode())


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        pytest.param({"colour": 1}, "colour", "unknown_parameter", id="unknown-parameter"),
        pytest.param(
            {"messages": [{**USER, "mood": 1}]},
            "messages[0].mood",
            "unknown_parameter",
            id="unknown-in-a-message",
        ),
        pytest.param({"model": None}, "model", "invalid_value", id="model-null"),
        pytest.param({"model": 7}, "model", "invalid_value", id="model-a-number"),
        pytest.param({"messages": []}, "messages", "invalid_value", id="no-messages"),
        pytest.param(
            {"messages": [{"role": "wizard", "content": "a"}]},
            "messages[0].role",
            "invalid_value",
            id="invented-role",
        ),
        pytest.param(
            {"messages": [{"role": "user"}]}, "messages[0].content", None, id="user-without-content"
        ),
        pytest.param(
            {"messages": [{"role": "tool", "content": "4"}]},
            "messages[0].tool_call_id",
            None,
            id="tool-answer-without-call",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
            id="image-part",
        ),
        pytest.param({"temperature": "1"}, "temperature", "invalid_value", id="text-for-number"),
        pytest.param({"temperature": 2.1}, "temperature", "invalid_value", id="too-hot"),
        pytest.param({"top_p": 0}, "top_p", "invalid_value", id="no-mass"),
        pytest.param({"top_k": -2}, "top_k", "invalid_value", id="fewer-than-no-candidates"),
        pytest.param({"audio": {}}, "audio", "unknown_parameter", id="not-supported"),
        pytest.param(
            {"audio": None, "colour": 1}, "colour", "unknown_parameter", id="unknown-beside-a-null"
        ),
        pytest.param(
            {"audio": None, "seed": 2**70}, "seed", "invalid_value", id="wrong-beside-a-null"
        ),
        pytest.param(
            {"messages": [{**USER, "tool_calls": [CALL]}]},
            "messages[0].tool_calls",
            None,
            id="a-user-calls",
        ),
        pytest.param(
            {"messages": [{**USER, "reasoning": "a"}]},
            "messages[0].reasoning",
            None,
            id="a-user-reasons",
        ),
        pytest.param(
            {"messages": [{**USER, "tool_call_id": "c"}]},
            "messages[0].tool_call_id",
            None,
            id="a-user-answers",
        ),
        pytest.param(
            {"messages": [USER, {**SAID, "tool_call_id": "c"}]},
            "messages[1].tool_call_id",
            None,
            id="an-assistant-answers",
        ),
        pytest.param(
            {"messages": [USER, {**SAID, "reasoning": "a", "reasoning_content": "b"}]},
            "messages[1].reasoning",
            None,
            id="reasoning-in-two-ways",
        ),
        pytest.param(
            {"messages": [USER, {**SAID, "annotations": [{}]}]},
            "messages[1].annotations",
            "invalid_value",
            id="annotations",
        ),
        pytest.param({"n": 0}, "n", "invalid_value", id="no-choice"),
        pytest.param({"n": True}, "n", "invalid_value", id="true-is-no-number"),
        pytest.param({"max_tokens": 0}, "max_tokens", "invalid_value", id="no-tokens"),
        pytest.param(
            {"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", None, id="two-limits"
        ),
        pytest.param({"min_tokens": 9, "max_tokens": 8}, "min_tokens", None, id="min-over-max"),
        pytest.param({"stop": ""}, "stop", "invalid_value", id="empty-stop"),
        pytest.param({"stop": ["x"] * 17}, "stop", "invalid_value", id="too-many-stops"),
        pytest.param({"seed": 2**63}, "seed", "invalid_value", id="seed-over-64-bits"),
        pytest.param({"logit_bias": {"a": 1}}, "logit_bias", "invalid_value", id="bias-of-text"),
        pytest.param({"logit_bias": {"1": 101}}, "logit_bias", "invalid_value", id="big-bias"),
        pytest.param(
            {"stream_options": {"include_usage": True}},
            "stream_options",
            None,
            id="options-without-stream",
        ),
        pytest.param({"top_logprobs": 2}, "top_logprobs", None, id="alternatives-to-nothing"),
        pytest.param(
            {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value", id="too-many"
        ),
        pytest.param({"store": True}, "store", None, id="nothing-is-kept"),
        pytest.param({"service_tier": "scale"}, "service_tier", "invalid_value", id="no-tier"),
        pytest.param(
            {"service_tier": "flex", "priority": 3}, "service_tier", None, id="two-priorities"
        ),
        pytest.param(
            {"modalities": ["text", "audio"]}, "modalities[1]", "invalid_value", id="no-audio"
        ),
        pytest.param(
            {"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value", id="labels"
        ),
        pytest.param(
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            None,
            id="no-padding",
        ),
        pytest.param(
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
            None,
            id="continuous-usage-alone",
        ),
        pytest.param(
            {"stream": True, "prompt_logprobs": 1}, "prompt_logprobs", None, id="no-event-for-it"
        ),
        pytest.param(
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
            None,
            id="continue-and-answer",
        ),
    ],
)
def test_refuses(more: dict[str, Any], param: str, code: str | None) -> None:
    refusal = chat(**more)
    assert isinstance(refusal, Invalid)
    assert (refusal.param, refusal.code) == (param, code)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"nonsense", b'{"model":"\xff"}', b"[" * 100_000],
    ids=["empty", "cut", "not-utf8", "not-json", "text-not-utf8", "deep"],
)
@pytest.mark.parametrize("ask", [chat_ask, completion_ask])
def test_what_is_no_json_is_refused(ask: Any, body: bytes) -> None:
    refusal = ask(body)
    assert isinstance(refusal, Invalid)
    assert refusal.code in ("invalid_json", "invalid_value")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(b'"\\ud83d"}]}', "half of a surrogate pair", id="half-an-emoji"),
        pytest.param(b'"\\ud83d secret"}]}', "end of escaped utf-16 surrogate", id="its-middle"),
        pytest.param(b"NaN}", "invalid character (byte 24)", id="no-number"),
        pytest.param(b'"secret', "cut short", id="cut"),
        pytest.param(b'"secret\xff"}', "a text is not UTF-8", id="latin-1"),
    ],
)
def test_what_is_no_json_is_told_why_and_not_quoted(text: bytes, why: str) -> None:
    refusal = chat_ask(b'{"messages":[{"content":' + text)
    assert isinstance(refusal, Invalid)
    assert refusal.message.startswith("The body is not valid JSON: ")
    assert why in refusal.message
    assert "secret" not in refusal.message


nested = st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner))


@given(st.binary(max_size=200) | nested.map(json.dumps).map(str.encode))
def test_no_body_is_a_fault(body: bytes) -> None:
    for ask in (chat_ask, completion_ask):
        assert isinstance(ask(body), Ask | Invalid)


@pytest.mark.parametrize(
    ("prompt", "count"),
    [("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2, 3]], 2), (["a", [1]], 2)],
    ids=["text", "tokens", "texts", "lists-of-tokens", "mixed"],
)
def test_prompts_come_in_many_forms(prompt: Any, count: int) -> None:
    ask = completion_ask(json.dumps({"model": "m", "prompt": prompt}).encode())
    assert isinstance(ask, Ask)
    assert len(ask.prompts) == count


@pytest.mark.parametrize(
    "prompt",
    [[], "", [""], [[]], [1, "a"], [-1], [2**32], [1.5], [True], ["a"] * 129, {}],
    ids=str,
)
def test_refuses_the_prompt(prompt: Any) -> None:
    refusal = completion_ask(json.dumps({"model": "m", "prompt": prompt}).encode())
    assert isinstance(refusal, Invalid)
    assert (refusal.param or "").startswith("prompt")


@pytest.mark.parametrize(
    ("more", "param"),
    [({"suffix": "x"}, "suffix"), ({"max_tokens": 0}, "max_tokens"), ({"best_of": 2}, "best_of")],
    ids=["no-middle", "nothing-asked", "best-of"],
)
def test_refuses_of_a_completion(more: dict[str, Any], param: str) -> None:
    refusal = completion_ask(json.dumps({"model": "m", "prompt": "a", **more}).encode())
    assert isinstance(refusal, Invalid)
    assert refusal.param == param


@pytest.mark.parametrize(
    ("more", "priority", "tier"),
    [
        pytest.param({}, 0, None, id="nothing-asked"),
        pytest.param({"service_tier": "auto"}, 0, "default", id="auto"),
        pytest.param({"service_tier": "priority"}, -1, "priority", id="sooner"),
        pytest.param({"service_tier": "flex"}, 1, "flex", id="later"),
        pytest.param({"service_tier": "default", "priority": 7}, 7, "default", id="its-own"),
    ],
)
def test_a_tier_is_a_priority_class(more: dict[str, Any], priority: int, tier: str | None) -> None:
    ask = chat_ask(json.dumps({"model": "m", "messages": [USER], **more}).encode())
    assert isinstance(ask, Ask)
    assert (ask.priority, ask.served_tier) == (priority, tier)


def test_null_is_the_same_as_absent() -> None:
    fields = dict.fromkeys(set(ChatBody.__struct_fields__) - {"model", "messages"})
    assert chat(**fields) == chat()


def test_null_is_no_unknown_parameter() -> None:
    """Clients send what they have, or what they got: SDKs dump unset fields as null."""
    dumped: dict[str, Any] = {
        **SAID,
        "audio": None,
        "function_call": None,
        "annotations": [],
        "tool_calls": None,
    }
    parameters = {"type": "object", "properties": {"a": {"const": None}}}
    function = {"name": "f", "colour": None, "parameters": parameters}
    read = chat(
        audio=None,
        messages=[USER, dumped, {**USER, "mood": None}],
        tools=[{"type": "function", "function": function}],
        logit_bias={"5": 1},
    )
    assert isinstance(read, ChatBody)
    assert [message.content for message in read.messages] == ["hi", "hello", "hi"]
    assert read.logit_bias == {5: 1}
    assert read.tools is not None
    assert read.tools[0].function.parameters == parameters  # a schema's nulls are its own


@pytest.mark.parametrize(("name", "value"), ASKS_NOTHING.items(), ids=ASKS_NOTHING)
def test_what_asks_for_nothing_is_no_unknown_parameter(name: str, value: Any) -> None:
    assert isinstance(chat(**{name: value}), ChatBody)
    refused = chat(**{name: 7})
    assert isinstance(refused, Invalid)
    assert (refused.param, refused.code) == (name, "unknown_parameter")


@pytest.mark.parametrize(("n", "best_of"), [(None, 1), (2, 2)])
def test_best_of_may_say_what_n_does(n: int | None, best_of: int) -> None:
    read = completion_ask(
        json.dumps({"model": "m", "prompt": "a", "n": n, "best_of": best_of}).encode()
    )
    assert isinstance(read, Ask)


def test_a_form_beside_a_demanded_call_is_named() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    for beside in ({"structured_outputs": {"regex": "a"}}, {"min_tokens": 9}):
        refused = chat(tools=[tool], tool_choice="required", **beside)
        assert isinstance(refused, Invalid)
        assert refused.param in beside


def test_zero_is_not_false() -> None:
    assert isinstance(chat(use_beam_search=0), Invalid)


def test_nothing_is_asked_of_one_message_by_what_another_asks() -> None:
    messages = [{**USER, "audio": None}, {**USER, "audio": {"id": "a"}}]
    refused = chat(messages=messages)
    assert isinstance(refused, Invalid)
    assert refused.param == "messages[1].audio"


def test_a_broken_body_with_a_null_is_no_json() -> None:
    read = parse_chat(b'{"audio":null,"model":"m" oops')
    assert isinstance(read, Invalid)
    assert read.code == "invalid_json"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_has_two_names(name: str) -> None:
    messages = [USER, {**SAID, name: "Hm."}]
    ask = chat_ask(json.dumps({"model": "m", "messages": messages}).encode())
    assert isinstance(ask, Ask)
    assert ask.encodes(Served("m"), "")[0].chat.messages[1].reasoning_content == "Hm."


@pytest.mark.parametrize("top_k", [0, -1])
def test_a_top_k_of_nothing_is_all_tokens(top_k: int) -> None:
    ask = chat_ask(json.dumps({"model": "m", "messages": [USER], "top_k": top_k}).encode())
    assert isinstance(ask, Ask)
    assert ask.sampling().top_k == 0


@pytest.mark.parametrize(
    ("more", "param"),
    [({"ignore_eos": True}, "ignore_eos"), ({"min_tokens": 2}, "min_tokens")],
    ids=["ignore-eos", "min-tokens"],
)
def test_a_form_says_when_the_answer_is_over(more: dict[str, Any], param: str) -> None:
    def ask(**more: Any) -> object:
        return chat_ask(json.dumps({"model": "m", "messages": [USER], **more}).encode())

    refused = ask(**OBJECT, **more)
    assert isinstance(refused, Invalid)
    assert refused.param == param
    assert isinstance(ask(**more), Ask)
    assert isinstance(ask(**OBJECT, min_tokens=1), Ask)


def test_text_parts_are_joined_by_line_ends() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    ask = chat_ask(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": parts}]}).encode()
    )
    assert isinstance(ask, Ask)
    assert ask.encodes(Served("m"), "")[0].chat.messages[0].content == "a\nb"


def test_a_completion_has_openais_limit_and_a_chat_has_none() -> None:
    completion = completion_ask(b'{"model":"m","prompt":"a"}')
    conversation = chat_ask(json.dumps({"model": "m", "messages": [USER]}).encode())
    assert isinstance(completion, Ask)
    assert isinstance(conversation, Ask)
    assert completion.sampling().max_tokens == 16
    assert not conversation.sampling().HasField("max_tokens")


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        pytest.param({"prompt_logprobs": 0}, 0, id="one-of-them"),
        pytest.param({"logprobs": 3}, None, id="none-of-the-prompt"),
        pytest.param({"logprobs": 3, "echo": True}, 3, id="of-the-echo"),
        pytest.param({"prompt_logprobs": 0, "logprobs": 3, "echo": True}, 3, id="the-most"),
        pytest.param({"prompt_logprobs": 5, "logprobs": 3, "echo": True}, 5, id="the-most-again"),
    ],
)
def test_a_worker_is_asked_for_all_that_is_told_of_a_prompt(
    more: dict[str, Any], asked: int | None
) -> None:
    ask = completion_ask(json.dumps({"model": "m", "prompt": "a", **more}).encode())
    assert isinstance(ask, Ask)
    sampling = ask.sampling()
    assert (sampling.prompt_logprobs if sampling.HasField("prompt_logprobs") else None) == asked
