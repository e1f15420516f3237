"""Greedy requests of every kind, by name: each has one answer, however it is asked."""

from typing import Any

from tests.end_to_end.answers import Asked, chat, completion, message, response

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "Rome", "Oslo"]},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
PICTURES = "🌊🎉 漢字 Grüße 👩‍👩‍👧"
QUESTION = "What is the weather in Paris, in celsius?"
ROME = {"name": "get_weather", "arguments": '{"city": "Rome", "unit": "celsius"}'}
# Even a small model calls once it has seen how.
SHOWN: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the weather in Rome, in celsius?"},
    {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": ROME}]},
    {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"},
    {"role": "assistant", "content": "It is 21 degrees in Rome."},
    {"role": "user", "content": QUESTION},
]
_NAME = "get_weather"
TOOLS = [{"type": "function", "function": {"name": _NAME, "parameters": CITY}}]
_FUNCTIONS = [{"type": "function", "name": _NAME, "parameters": CITY, "strict": True}]
_NAMED = {"type": "function", "function": {"name": _NAME}}


def schema(form: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chat's `response_format`."""
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": form, **more}}


def _forced(**more: Any) -> Asked:
    return chat(QUESTION, tools=TOOLS, max_tokens=60, **more)


CASES: dict[str, Asked] = {
    "chat": chat("Write one sentence about the sea.", max_tokens=24),
    "chat-logprobs": chat("Name three colours.", max_tokens=20, logprobs=True, top_logprobs=3),
    "chat-unicode": chat(f"Repeat exactly: {PICTURES}", max_tokens=24, logprobs=True),
    "chat-pictures": chat("Go.", structured_outputs={"choice": [PICTURES]}, logprobs=True),
    "chat-two": chat("Count from one to ten.", max_tokens=16, n=2),
    "chat-two-logprobs": chat("Say hello.", max_tokens=8, n=2, logprobs=True),
    "chat-stop": chat("Count from one to ten.", max_tokens=32, stop=["4", "four"]),
    "chat-stop-included": chat(
        "Explain gravity to a child.", max_tokens=32, stop=[" a"], include_stop_str_in_output=True
    ),
    "chat-penalized": chat("Give me a recipe.", max_tokens=16, repetition_penalty=1.3),
    "chat-ignoring-its-end": chat("Say hello.", max_tokens=24, ignore_eos=True),
    "chat-special-tokens": chat("Hi.", max_tokens=40, skip_special_tokens=False, ignore_eos=True),
    "chat-biased": chat("Say hello.", max_tokens=12, logit_bias={"28": -100, "30": 5}),
    "chat-system": Asked(
        "/v1/chat/completions",
        {
            **chat("Who are you?", max_tokens=12).body,
            "messages": [
                {"role": "system", "content": "You are a pirate."},
                {"role": "user", "content": "Who are you?"},
            ],
        },
    ),
    "chat-json-object": chat(
        "A person as JSON: name, age.", response_format={"type": "json_object"}, max_tokens=60
    ),
    "chat-schema": chat(QUESTION, response_format=schema(CITY), max_tokens=40, logprobs=True),
    "chat-regex": chat("A number.", structured_outputs={"regex": "[0-9]{3}-[a-c]{2}"}),
    "chat-named": _forced(tool_choice=_NAMED),
    "chat-required": _forced(tool_choice="required", parallel_tool_calls=False),
    "chat-auto": _forced(),
    "chat-auto-calls": _forced(messages=SHOWN),
    "chat-none": _forced(tool_choice="none"),
    "completion": completion("The sea is", max_tokens=24),
    "completion-echo": completion("The sea 🌊 is", max_tokens=8, echo=True, logprobs=2),
    "completion-echo-alone": completion("The sea 🌊 is", max_tokens=0, echo=True),
    "completion-many": completion(["The sea is", "One, two,"], max_tokens=8, n=2),
    "completion-ids": completion([504, 3725, 314], max_tokens=12, stop="."),
    "completion-choice": completion("Yes or no?", structured_outputs={"choice": ["yes", "no"]}),
    "response": response("Name three colours.", max_output_tokens=16),
    "response-logprobs": response(
        "Say hello.",
        instructions="Be brief.",
        max_output_tokens=12,
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    ),
    "response-schema": response(
        QUESTION, text={"format": {"type": "json_schema", "name": "x", "schema": CITY}}
    ),
    "response-function": response(
        QUESTION, tools=_FUNCTIONS, tool_choice={"type": "function", "name": _NAME}
    ),
    "message": message("Explain gravity to a child.", max_tokens=20, system="Be brief."),
    "message-stop": message("Count from one to ten.", max_tokens=32, stop_sequences=["4"]),
    "message-tool": message(
        QUESTION,
        max_tokens=60,
        tools=[{"name": _NAME, "input_schema": CITY}],
        tool_choice={"type": "tool", "name": _NAME},
    ),
    "message-schema": message(
        QUESTION,
        max_tokens=60,
        output_config={"format": {"type": "json_schema", "schema": CITY}},
    ),
}
