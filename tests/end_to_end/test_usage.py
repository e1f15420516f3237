"""What is billed is what the model's own tokenizer counts, by every door, streamed or not."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer

from tests.end_to_end import strict
from tests.end_to_end.answers import Answer, Asked, at_once, chat, completion, message, response
from tests.end_to_end.cases import CASES, CITY, QUESTION, TOOLS
from tests.system import System

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

COUNT = "Count from one to three. Grüße 🌊"
FUNCTION = {"type": "function", "name": "f", "parameters": CITY}
USE: dict[str, Any] = {
    "tools": [{"name": "f", "input_schema": CITY}],
    "tool_choice": {"type": "tool", "name": "f"},
}
FORM: dict[str, Any] = {"structured_outputs": {"regex": "[0-9]{3}, é"}}
LIMITS = {
    "/v1/chat/completions": "max_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
    "/v1/messages": "max_tokens",
}
CUT = {"length", "incomplete", "max_tokens "}
# Answers that end by themselves, each in its own way: so many tokens are needed for them.
ENDING: dict[str, Asked] = {
    "chat-end-token": chat("Say hello.", logit_bias={"2": 100}),
    "chat-form": chat(COUNT, **FORM),
    "chat-call": chat(QUESTION, tools=TOOLS, tool_choice="required", parallel_tool_calls=False),
    "chat-stop-string": chat("Count from one to ten.", stop=["4"]),
    "completion-form": completion(COUNT, **FORM),
    "completion-stop-token": completion("One, two,", stop_token_ids=[28]),
    "response-form": response(
        COUNT, text={"format": {"type": "json_schema", "name": "x", "schema": CITY}}
    ),
    "response-call": response(
        QUESTION, tools=[FUNCTION], tool_choice={"type": "function", "name": "f"}
    ),
    "message-form": message(
        COUNT, output_config={"format": {"type": "json_schema", "schema": CITY}}, max_tokens=90
    ),
    "message-stop-sequence": message("Count from one to ten.", stop_sequences=["4"], max_tokens=90),
    "message-use": message(QUESTION, max_tokens=90, **USE),
}


def limited(asked: Asked, answer: Answer, fewer: int) -> Asked:
    """The same with as many tokens as the answer was billed for, or so many fewer."""
    return asked.with_(**{LIMITS[asked.path]: answer.usage[1] - fewer})


@pytest.fixture(scope="module")
def answers(vllm_system: System) -> dict[str, Answer]:
    """Whole; by a limit of what they cost, whole and streamed; and by a limit below that."""
    whole = at_once(vllm_system.url, ENDING)
    exact = {name: limited(asked, whole[name], 0) for name, asked in ENDING.items()}
    streamed = {f"{name} streamed": asked.streamed() for name, asked in exact.items()}
    # What is cut at its first token cannot be asked for.
    short = {
        f"{name} short": limited(asked, whole[name], 1).streamed()
        for name, asked in ENDING.items()
        if whole[name].usage[1] > 1
    }
    exact = {f"{name} exact": asked for name, asked in exact.items()}
    return {**whole, **at_once(vllm_system.url, {**exact, **streamed, **short})}


@pytest.mark.parametrize("name", ENDING)
def test_an_answer_needs_the_tokens_that_it_costs(answers: dict[str, Answer], name: str) -> None:
    """With so many it is whole, with one fewer it is cut: the engine's own count."""
    whole = answers[name]
    assert whole.choices[0].ended not in CUT
    assert answers[f"{name} exact"] == answers[f"{name} streamed"] == whole
    if whole.usage[1] > 1:
        short = answers[f"{name} short"]
        assert short.choices[0].ended in CUT
        assert short.usage == (whole.usage[0], whole.usage[1] - 1)


def says(asked: Asked) -> list[dict[str, Any]]:
    """The conversation that a request stands for, as a chat template takes it."""
    body = asked.body
    system = body.get("instructions") or body.get("system")
    before = [{"role": "system", "content": system}] if system else []
    given = body.get("messages") or [{"role": "user", "content": body.get("input")}]
    return [*before, *given]


PLAIN = {
    name: asked
    for name, asked in {**CASES, **ENDING}.items()
    if "prompt" not in asked.body and "tools" not in asked.body
}


def test_a_conversation_costs_what_its_template_makes_of_it(
    vllm_system: System, demo_model: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(demo_model)
    brief = {name: each.with_(**{LIMITS[each.path]: 4}) for name, each in PLAIN.items()}
    answers = at_once(vllm_system.url, brief)
    rendered = {
        name: tokenizer.apply_chat_template(says(asked), add_generation_prompt=True)["input_ids"]
        for name, asked in PLAIN.items()
    }
    assert {name: answer.usage[0] for name, answer in answers.items()} == {
        name: len(ids) for name, ids in rendered.items()
    }


def test_the_tools_of_a_conversation_cost_the_same_by_every_door(
    client: httpx.Client, vllm_system: System, demo_model: Path
) -> None:
    from transformers import AutoTokenizer

    tool = {"type": "function", "function": {"name": "f", "parameters": CITY}}
    asked = {
        "chat": chat(QUESTION, tools=[tool], max_tokens=1),
        "response": response(QUESTION, tools=[FUNCTION], max_output_tokens=1),
        "message": message(QUESTION, tools=USE["tools"], max_tokens=1),
    }
    tokenizer: Any = AutoTokenizer.from_pretrained(demo_model)
    conversation = says(asked["chat"])
    rendered = tokenizer.apply_chat_template(
        conversation, tools=[tool], add_generation_prompt=True
    )["input_ids"]
    body = {"model": "smollm2", "messages": conversation, "tools": USE["tools"]}
    counted = client.post("/v1/messages/count_tokens", json=body).json()
    costs = {answer.usage[0] for answer in at_once(vllm_system.url, asked).values()}
    assert costs == {counted["input_tokens"]} == {len(rendered)}


@pytest.mark.parametrize("prompt", ["The sea 🌊 is", [504, 3725, 314], ["One", "Grüße"]], ids=str)
def test_a_completion_costs_its_prompts_once(
    vllm_system: System, demo_model: Path, prompt: Any
) -> None:
    """However many choices each has, and with an echo, which costs nothing beyond it."""
    reference = Tokenizer.from_file(str(demo_model / "tokenizer.json"))
    asked = completion(prompt, max_tokens=3, n=2, echo=True, logprobs=0, ignore_eos=True)
    answers = at_once(vllm_system.url, {"whole": asked, "streamed": asked.streamed()})
    assert answers["streamed"] == answers["whole"]
    prompts = prompt if isinstance(prompt, list) and isinstance(prompt[0], str) else [prompt]
    counts = [
        len(reference.encode(each).ids if isinstance(each, str) else each) for each in prompts
    ]
    assert answers["whole"].usage == (sum(counts), 3 * 2 * len(prompts))
    told = [len(choice.tokens) for choice in answers["whole"].choices]
    assert told == [count + 3 for count in counts for _ in range(2)]


def test_an_embedding_costs_its_inputs(client: httpx.Client, embedding_model: Path) -> None:
    reference = Tokenizer.from_file(str(embedding_model / "tokenizer.json"))
    reference.no_padding()
    texts = ["The sea", "Grüße 🌊"]
    answered = client.post("/v1/embeddings", json={"model": "minilm", "input": texts})
    count = sum(len(reference.encode(text).ids) for text in texts)
    assert answered.json()["usage"] == {"prompt_tokens": count, "total_tokens": count}


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(chat(COUNT, max_tokens=12, n=2, logprobs=True), id="chat"),
        pytest.param(completion(COUNT, max_tokens=12, n=2, logprobs=0), id="completion"),
    ],
)
def test_each_event_counts_the_tokens_so_far(client: httpx.Client, asked: Asked) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {**asked.body, "stream": True, "stream_options": options}
    events = strict.read_stream(asked.path, client.post(asked.path, json=body).text)
    whole = strict.read_body(asked.path, client.post(asked.path, json=asked.body).text)
    counted, told = 0, 0
    for event in events:
        for choice in event["choices"]:
            columns = choice["logprobs"] or {}
            told += len(columns.get("content", columns.get("tokens", ())))
        usage = event["usage"]
        assert usage["prompt_tokens"] == whole["usage"]["prompt_tokens"]
        assert told <= usage["completion_tokens"] >= counted
        counted = usage["completion_tokens"]
    assert told == counted == whole["usage"]["completion_tokens"] == 24
