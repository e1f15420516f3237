"""The doors that take a body, and examples for each of their parameters. Pure.

The parameters that OpenAI, Anthropic or vLLM have and that are not served here are among them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.edge.apis import answers
from services.edge.apis.ask import Ask, chat_ask, completion_ask
from services.edge.apis.message_events import MESSAGES
from services.edge.apis.messages import CountBody, MessagesBody, read_count, read_messages
from services.edge.apis.openai import ChatBody, CompletionBody
from services.edge.apis.openai_embeddings import EmbeddingBody, parse_embedding, wrong_dimensions
from services.edge.apis.openai_scoring import RerankBody, ScoreBody, parse_rerank, parse_score
from services.edge.apis.openai_tokens import (
    DetokenizeBody,
    TokenizeBody,
    parse_detokenize,
    parse_tokenize,
)
from services.edge.apis.refusals import Invalid
from services.edge.apis.response_events import ResponsesForm
from services.edge.apis.responses import Referring, ResponsesBody, read_responses


@dataclass(frozen=True, slots=True)
class Example:
    """A value of a parameter, and what else a body needs to hold for it."""

    value: Any
    beside: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Door:
    """A door with a JSON body."""

    path: str
    body: type[msgspec.Struct]
    answer: type[msgspec.Struct]
    read: Callable[[bytes], object]
    least: Mapping[str, Any]  # what a body must hold
    examples: Mapping[str, Sequence[Example]]
    is_anthropics: bool = False  # so are its errors
    is_placed: bool = True  # workers do it, and may be busy
    also: Sequence[str] = ()  # other paths, for clients of other servers

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths."""
        return (self.path, *self.also)


def _of(*values: Any, **beside: Any) -> list[Example]:
    return [Example(value, beside) for value in values]


_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_SHORT: dict[str, Any] = {"max_tokens": 4}

_GENERATING: dict[str, list[Example]] = {
    "stream": _of(True, False),
    "stream_options": [
        *_of({"include_usage": True}, stream=True),
        *_of({"include_usage": True, "continuous_usage_stats": True}, stream=True),
        *_of({"include_obfuscation": False}, stream=True),
        *_of({"include_obfuscation": True}, stream=True),
    ],
    "n": _of(2, 129),
    "temperature": _of(0, 2.1),
    "top_p": _of(0.5, 0),
    "top_k": _of(5, -1, 0, -2),
    "min_p": _of(0.1),
    "seed": _of(7),
    "stop": _of("the", ["a b", "é"], ["x"] * 17),
    "include_stop_str_in_output": _of(True, stop=["e"]),
    "stop_token_ids": _of([2]),
    "logit_bias": _of({"5": -100}, {"5": 101}),
    "presence_penalty": _of(0.5),
    "frequency_penalty": _of(0.5),
    "repetition_penalty": _of(1.1),
    "min_tokens": [*_of(2), *_of(2, response_format={"type": "json_object"})],
    "ignore_eos": [*_of(True), *_of(True, structured_outputs={"choice": ["yes", "no"]})],
    "skip_special_tokens": _of(False),
    "response_format": [
        *_of({"type": "text"}, {"type": "json_object"}),
        *_of({"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}}),
        *_of({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no"}}}),
    ],
    "structured_outputs": [
        *_of({"json": _SCHEMA}, {"regex": "[0-9]+"}, {"choice": ["yes", "no"]}),
        *_of({"grammar": 'root ::= "a"'}, {"json_object": True}),
        *_of({"regex": "("}, {"regex": "a", "choice": ["b"]}),
    ],
    "prompt_logprobs": [*_of(1), *_of(1, stream=True)],
    "user": _of("someone"),
    "priority": _of(1),
    "cache_salt": _of("a salt"),
    # Of OpenAI and vLLM, and not served.
    "best_of": _of(2),
    "use_beam_search": _of(False, True),
    "length_penalty": _of(1.0, 2.0),
    "truncate_prompt_tokens": _of(10),
    "allowed_token_ids": _of([5]),
    "bad_words": _of([], ["x"]),
    "guided_json": _of(_SCHEMA),
    "guided_regex": _of("a"),
    "guided_choice": _of(["a"]),
    "guided_grammar": _of('root ::= "a"'),
    "logits_processors": _of([], ["x"]),
    "return_token_ids": _of(False, True),
    "return_tokens_as_token_ids": _of(False, True),
    "spaces_between_special_tokens": _of(True, False),
    "add_special_tokens": _of(True),
    "kv_transfer_params": _of({}, {"a": 1}),
    "vllm_xargs": _of({}, {"a": 1}),
    "request_id": _of("mine"),
}


def _tool(name: str, parameters: Mapping[str, Any] = _SCHEMA) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


_TOOL = _tool("f")
_HI = [{"role": "user", "content": "Say hello."}]
_CHAT: dict[str, list[Example]] = {
    "messages": [
        *_of([{"role": "user", "content": [{"type": "text", "text": "Hi."}]}]),
        *_of([{"role": "developer", "content": "Be brief."}, *_HI]),
        *_of([{"role": "user", "content": "Hi.", "name": "Ada"}]),
        *_of([], [{"role": "wizard", "content": "Hi."}]),
        *_of([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
    ],
    "max_tokens": _of(4, 0),
    "max_completion_tokens": [*_of(4, max_tokens=None), *_of(4)],
    "logprobs": _of(True),
    "top_logprobs": [*_of(2, logprobs=True), *_of(2)],
    "service_tier": _of("auto", "default", "flex", "priority", "scale"),
    "metadata": _of({"team": "a"}),
    "store": _of(False, True),
    "modalities": _of(["text"], ["text", "audio"]),
    "safety_identifier": _of("someone"),
    "prompt_cache_key": _of("a key"),
    "add_generation_prompt": _of(False),
    "continue_final_message": [
        *_of(True, messages=[*_HI, {"role": "assistant", "content": "Hel"}]),
        *_of(True, add_generation_prompt=True),
    ],
    "chat_template_kwargs": _of({"a": 1}),
    "tools": [
        *_of([_TOOL]),
        *_of([_TOOL], tool_choice="none"),
        *_of([], [_TOOL] * 2, [_tool("a b")], [_tool("f", {"type": "string"})]),
        *_of([{"type": "custom", "custom": {"name": "f"}}]),
    ],
    "tool_choice": [
        *_of("none", "auto", "required", _named("f"), tools=[_TOOL]),
        *_of("required", tools=[_TOOL], response_format={"type": "json_object"}),
        *_of("required", tools=[_TOOL], structured_outputs={"regex": "a"}),
        *_of("required", tools=[_TOOL], min_tokens=2),
        *_of(_named("g"), tools=[_TOOL]),
        *_of("auto"),
    ],
    "parallel_tool_calls": [*_of(True, False, tools=[_TOOL]), *_of(False)],
    "include_reasoning": _of(True, False),
    "reasoning_effort": _of("a lot"),  # another is honoured, or refused, by the model's template
    "thinking_token_budget": _of(8),
    "audio": _of({"voice": "alloy", "format": "wav"}),
    "prediction": _of({"type": "content", "content": "x"}),
    "web_search_options": _of({}),
    "verbosity": _of("medium", "low"),
    "functions": _of([], [{"name": "f"}]),
    "function_call": _of("none", "auto"),
    "prompt_cache_retention": _of("24h"),
    "chat_template": _of("{{ messages }}"),
    "documents": _of([], [{"text": "a"}]),
    "mm_processor_kwargs": _of({}, {"a": 1}),
    "echo": _of(False, True),
}
_COMPLETION: dict[str, list[Example]] = {
    "prompt": _of(["a", "b"], [504, 3725], [[504], [3725, 314]], "", [], ["a"] * 129),
    "max_tokens": [*_of(4, 0), *_of(0, echo=True)],
    "suffix": _of("end"),
    "best_of": _of(1, 2),
    "logprobs": _of(2, 21),
    "echo": _of(True),
}

_FUNCTION = {"type": "function", "name": "f", "parameters": _SCHEMA}
_NO_FUNCTION = {**_FUNCTION, "parameters": {"type": "string"}}
_RESPONSES: dict[str, list[Example]] = {
    "input": [
        *_of("Hi.", _HI),
        *_of([{"role": "user", "content": [{"type": "input_text", "text": "Hi."}]}]),
        *_of([*_HI, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]),
        *_of([*_HI, {"type": "function_call_output", "call_id": "c", "output": "1"}]),
        *_of([], [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
    ],
    "instructions": _of("Be brief."),
    "stream": _of(True, False),
    "stream_options": [
        *_of({"include_obfuscation": False}, {"include_obfuscation": True}, stream=True),
        *_of({}),
    ],
    "max_output_tokens": _of(4, 0),
    "temperature": _of(0, 2.1),
    "top_p": _of(0.5, 0),
    "text": [
        *_of({"format": {"type": "text"}}, {"format": {"type": "json_object"}}),
        *_of({"format": {"type": "json_schema", "name": "x", "schema": _SCHEMA}}),
        *_of({"format": {"type": "json_schema", "name": "x", "schema": {"type": "no"}}}),
        *_of({"verbosity": "low"}),
    ],
    "tools": _of([], [_FUNCTION], [_FUNCTION] * 2, [_NO_FUNCTION], [{"type": "web_search"}]),
    "tool_choice": [
        *_of("none", "auto", "required", {"type": "function", "name": "f"}, tools=[_FUNCTION]),
        *_of({"type": "function", "name": "g"}, {"type": "file_search"}, tools=[_FUNCTION]),
        *_of("required"),
    ],
    "parallel_tool_calls": [*_of(True, False, tools=[_FUNCTION]), *_of(True)],
    "reasoning": _of({"effort": None}, {"effort": "a lot"}, {"summary": "auto"}),
    "include": _of([], ["message.output_text.logprobs"], ["reasoning.encrypted_content"]),
    "top_logprobs": [*_of(2, include=["message.output_text.logprobs"]), *_of(2)],
    "store": _of(True, False),
    "previous_response_id": _of(),  # 400 unless it is kept: tests/edge/test_responses.py
    "truncation": _of("disabled", "auto"),
    "background": _of(False, True),
    "service_tier": _of("auto", "default", "flex", "priority", "scale"),
    "metadata": _of({"team": "a"}),
    "user": _of("someone"),
    "safety_identifier": _of("someone"),
    "prompt_cache_key": _of("a key"),
    "top_k": _of(5, -1, 0, -2),
    "min_p": _of(0.1),
    "seed": _of(7),
    "stop": _of("the", ["a b", "é"], ["x"] * 17),
    "repetition_penalty": _of(1.1),
    "ignore_eos": _of(True),
    "skip_special_tokens": _of(False),
    "priority": _of(1),
    "cache_salt": _of("a salt"),
    "chat_template_kwargs": _of({"a": 1}),
    # Of OpenAI, and not served.
    "context_management": _of([]),
    "conversation": _of("conv_1"),
    "max_tool_calls": _of(1),
    "moderation": _of({"model": "m"}),
    "prompt": _of({"id": "x"}),
    "prompt_cache_options": _of({}),
    "prompt_cache_retention": _of("24h"),
}

_CUSTOM = {"name": "f", "input_schema": _SCHEMA}
_TURN = [{"role": "user", "content": [{"type": "text", "text": "Hi."}]}]
_USE = {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}
_RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "1", "is_error": False}
_COUNTED: dict[str, list[Example]] = {
    "messages": [
        *_of(_TURN, [*_HI, {"role": "assistant", "content": "Hel"}]),
        *_of([*_HI, {"role": "assistant", "content": [_USE]}, {**_HI[0], "content": [_RESULT]}]),
        *_of([], [{"role": "user", "content": [{"type": "image", "source": {}}]}]),
        *_of([*_HI, {"role": "assistant", "content": [_USE]}]),
        *_of([{"role": "user", "content": [_USE]}]),
    ],
    "system": _of("Be brief.", [{"type": "text", "text": "Be brief."}]),
    "tools": [
        *_of([], [_CUSTOM], [_CUSTOM] * 2),
        *_of([{"type": "bash_20250124", "name": "bash"}]),
    ],
    "tool_choice": [
        *_of({"type": "auto"}, {"type": "any"}, {"type": "none"}, tools=[_CUSTOM]),
        *_of({"type": "tool", "name": "f", "disable_parallel_tool_use": True}, tools=[_CUSTOM]),
        *_of({"type": "tool", "name": "g"}, tools=[_CUSTOM]),
        *_of({"type": "any"}),
    ],
    "thinking": _of({"type": "disabled"}, {"type": "enabled", "budget_tokens": 1024}),
    "output_config": [
        *_of({"format": {"type": "json_schema", "schema": _SCHEMA}}),
        *_of({"format": {"type": "json_schema", "schema": {"type": "no"}}}, {"effort": "low"}),
    ],
    "cache_control": _of({"type": "ephemeral"}),
    # Of Anthropic, and not served.
    "mcp_servers": _of([], [{"name": "s"}]),
    "context_management": _of({}),
    "speed": _of("fast"),
}
_MESSAGES: dict[str, list[Example]] = {
    **_COUNTED,
    "max_tokens": _of(4, 0),
    "stream": _of(True, False),
    "temperature": _of(0, 1.1),
    "top_p": _of(0.5, 0),
    "top_k": _of(5, 0),
    "stop_sequences": _of(["the"], ["x"] * 17),
    "metadata": _of({"user_id": "someone"}, {"team": "a"}),
    "service_tier": _of("auto", "standard_only", "priority"),
    "container": _of("x"),
    "inference_geo": _of("eu"),
}


def _read_responses(body: bytes) -> Ask | Invalid:
    read = read_responses(body)
    if isinstance(read, Referring):
        return Invalid("Nothing is kept here", "input")
    if isinstance(read, Invalid):
        return read
    return read.continuing((), ResponsesForm(read.body, None))


def _read_messages(body: bytes) -> Ask | Invalid:
    return read_messages(body, MESSAGES)


_EMBEDDINGS: dict[str, list[Example]] = {
    "input": [
        *_of("a text", ["one", "two"], [101, 7592, 102], [[101, 7592, 102], [101, 102]]),
        *_of("", [], [""], [[]], ["a"] * 2049),
    ],
    "encoding_format": _of("float", "base64", "binary"),
    "dimensions": _of(64),
    "user": _of("someone"),
    "priority": _of(1),
    "truncate_prompt_tokens": _of(10),
    "add_special_tokens": _of(True),
    "normalize": _of(True),
    "embed_dtype": _of("float32", "float16"),
    "messages": _of(_HI),
}
_RERANK: dict[str, list[Example]] = {
    "query": _of("tea", ""),
    "documents": _of(["a", "b"], [{"text": "a"}], [], [{"image": "a"}]),
    "top_n": _of(1, -1),
    "return_documents": _of(True, False),
    "user": _of("someone"),
    "priority": _of(1),
    "max_tokens_per_doc": _of(10),
    "truncate_prompt_tokens": _of(10),
    "rank_fields": _of(["text"]),
}
_SCORE: dict[str, list[Example]] = {
    "text_1": _of("tea", ["a", "b", "c"]),
    "text_2": _of(["coffee", "sea"]),
    "data_1": _of("tea"),
    "data_2": _of(["coffee"]),
    "queries": _of("tea"),
    "documents": _of(["coffee"]),
    "items": _of(["coffee"]),
    "user": _of("someone"),
    "priority": _of(1),
    "truncate_prompt_tokens": _of(10),
}
_SAID: dict[str, Any] = {"prompt": None, "messages": _HI}
_TOKENIZE: dict[str, list[Example]] = {
    "prompt": _of("Hello", None),
    "messages": [*_of(_HI, prompt=None), *_of(_HI)],
    "add_special_tokens": _of(True, False),
    "return_token_strs": _of(True, False),
    "add_generation_prompt": [*_of(True, False, **_SAID), *_of(True)],
    "continue_final_message": [
        *_of(True, **_SAID),
        *_of(True, add_generation_prompt=True, **_SAID),
    ],
    "chat_template_kwargs": _of({"a": 1}, **_SAID),
    "tools": [*_of([_TOOL], [], **_SAID), *_of([_TOOL])],
    "chat_template": _of("{{ messages }}"),
    "mm_processor_kwargs": _of({}, {"a": 1}),
    "media_io_kwargs": _of({}),
}
_DETOKENIZE: dict[str, list[Example]] = {"tokens": _of([504, 3725], [], [-1])}


def _read_embedding(body: bytes) -> object:
    asked = parse_embedding(body)
    return asked if isinstance(asked, Invalid) else wrong_dimensions(asked.body, {})


DOORS: tuple[Door, ...] = (
    Door(
        "/v1/chat/completions",
        ChatBody,
        answers.ChatCompletion,
        chat_ask,
        {"model": "smollm2", "messages": _HI, **_SHORT},
        {**_GENERATING, **_CHAT},
    ),
    Door(
        "/v1/completions",
        CompletionBody,
        answers.TextCompletion,
        completion_ask,
        {"model": "smollm2", "prompt": "The sea is", **_SHORT},
        {**_GENERATING, **_COMPLETION},
    ),
    Door(
        "/v1/responses",
        ResponsesBody,
        answers.Response,
        _read_responses,
        {"model": "smollm2", "input": "Say hello.", "max_output_tokens": 4},
        _RESPONSES,
    ),
    Door(
        "/v1/messages",
        MessagesBody,
        answers.AnsweredMessage,
        _read_messages,
        {"model": "smollm2", "messages": _HI, **_SHORT},
        _MESSAGES,
        is_anthropics=True,
    ),
    Door(
        "/v1/messages/count_tokens",
        CountBody,
        answers.Counted,
        read_count,
        {"model": "smollm2", "messages": _HI},
        _COUNTED,
        is_anthropics=True,
        is_placed=False,
    ),
    Door(
        "/v1/embeddings",
        EmbeddingBody,
        answers.Embeddings,
        _read_embedding,
        {"model": "minilm", "input": "a text"},
        _EMBEDDINGS,
    ),
    Door(
        "/v1/rerank",
        RerankBody,
        answers.Ranking,
        parse_rerank,
        {"model": "minilm", "query": "tea", "documents": ["coffee", "sea"]},
        _RERANK,
        also=("/v2/rerank", "/rerank"),
    ),
    Door(
        "/v1/score",
        ScoreBody,
        answers.Scores,
        parse_score,
        {"model": "minilm", "text_1": "tea", "text_2": ["coffee", "sea"]},
        _SCORE,
        also=("/score",),
    ),
    Door(
        "/tokenize",
        TokenizeBody,
        answers.Tokenized,
        parse_tokenize,
        {"model": "smollm2", "prompt": "Hello"},
        _TOKENIZE,
        is_placed=False,
    ),
    Door(
        "/detokenize",
        DetokenizeBody,
        answers.Detokenized,
        parse_detokenize,
        {"model": "smollm2", "tokens": [504]},
        _DETOKENIZE,
        is_placed=False,
    ),
)
