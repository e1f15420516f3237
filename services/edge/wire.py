"""OpenAI's requests as Headway's messages. Pure."""

import msgspec

from headway.tokenizer.v1 import tokenizer_pb2 as tokenizer
from headway.worker.v1 import worker_pb2 as worker
from services.edge.apis import tools
from services.edge.apis.openai import (
    ChatBody,
    Message,
    Prompt,
    Sampling,
    stops,
    text_of,
)
from services.edge.workers import Served


def encode_chat(chat: ChatBody, served: Served, traceparent: str) -> tokenizer.EncodeRequest:
    """What the tokenizer is asked for a conversation."""
    conversation = tokenizer.Chat(
        messages=[_message(message) for message in chat.messages],
        add_generation_prompt=chat.add_generation_prompt,
        continue_final_message=bool(chat.continue_final_message),
    )
    if chat.continue_final_message:
        conversation.add_generation_prompt = False
    if chat.chat_template_kwargs:
        conversation.template_kwargs_json = _template_kwargs(chat)
    if chat.reasoning_effort:
        conversation.reasoning_effort = chat.reasoning_effort
    if chat.tools:
        conversation.tools.extend(map(tools.offered, chat.tools))
    return tokenizer.EncodeRequest(
        model=served.model,
        adapter=served.adapter,
        chat=conversation,
        cache_salt=chat.cache_salt or "",
        traceparent=traceparent,
    )


def parsing_of(chat: ChatBody) -> worker.Parsing:
    """What the worker is to tell apart in the answer; nothing in particular most of the time."""
    if not chat.tools and not _has_say_in_reasoning(chat):
        return _ANY
    return tools.parsing(
        chat.tools,
        chat.tool_choice,
        single_call=chat.parallel_tool_calls is False,
        hide_reasoning=chat.include_reasoning is False,
        template_kwargs_json=_what_the_template_got(chat),
    )


_ANY = worker.Parsing()


def _has_say_in_reasoning(chat: ChatBody) -> bool:
    return bool(
        chat.chat_template_kwargs or chat.reasoning_effort or chat.include_reasoning is False
    )


def _template_kwargs(chat: ChatBody) -> str:
    return msgspec.json.encode(chat.chat_template_kwargs).decode()


def _what_the_template_got(chat: ChatBody) -> str:
    """The chat template's variables, or more of them than it reads."""
    effort = chat.reasoning_effort
    if effort is None:
        return _template_kwargs(chat) if chat.chat_template_kwargs else ""
    thinking = {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    return msgspec.json.encode({**thinking, **(chat.chat_template_kwargs or {})}).decode()


def encode_prompt(
    prompt: Prompt, served: Served, traceparent: str, cache_salt: str = ""
) -> tokenizer.EncodeRequest:
    """What the tokenizer is asked for a plain prompt."""
    request = tokenizer.EncodeRequest(
        model=served.model,
        adapter=served.adapter,
        cache_salt=cache_salt,
        traceparent=traceparent,
    )
    if isinstance(prompt, str):
        request.text = prompt
    else:
        request.token_ids.ids.extend(prompt)
    return request


def without_prompt(request: tokenizer.EncodeRequest) -> tokenizer.EncodeRequest:
    """What is still wanted of a request whose prompt is encoded."""
    rest = tokenizer.EncodeRequest(model=request.model, adapter=request.adapter)
    if request.HasField("chat"):
        rest.chat.SetInParent()
    return rest


def sampling_of(sampling: Sampling, max_tokens: int | None) -> worker.Sampling:
    """How the worker is to choose tokens; absent stays absent."""
    return worker.Sampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=None if sampling.top_k in _ALL_TOKENS else sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        seed=sampling.seed,
        max_tokens=max_tokens,
        min_tokens=sampling.min_tokens or 0,
        choices=sampling.n or 1,
        stop=stops(sampling),
        stop_token_ids=sampling.stop_token_ids,
        include_stop=bool(sampling.include_stop_str_in_output),
        ignore_eos=bool(sampling.ignore_eos),
        keep_special_tokens=sampling.skip_special_tokens is False,
        logit_bias=sampling.logit_bias,
    )


_ALL_TOKENS = (-1, 0)  # as vLLM has it

# What the worker calls otherwise than OpenAI does.
_PARAMETERS = {
    "choices": "n",
    "include_stop": "include_stop_str_in_output",
    "keep_special_tokens": "skip_special_tokens",
}


def parameter_of(
    request: tokenizer.EncodeRequest, constrained_by: str, parameter: str
) -> str | None:
    """OpenAI's name for the worker's parameter that is at fault; None where none is."""
    if parameter == "constraint":
        return constrained_by
    if parameter == "prompt":
        return prompt_parameter(request)
    return _PARAMETERS.get(parameter, parameter) or None


def prompt_parameter(request: tokenizer.EncodeRequest) -> str:
    """OpenAI's name for the prompt, which depends on the door."""
    return "messages" if request.HasField("chat") else "prompt"


def _message(message: Message) -> tokenizer.Message:
    return tokenizer.Message(
        role=message.role,
        content=text_of(message.content),
        name=message.name or "",
        tool_calls=[
            tokenizer.ToolCall(
                id=call.id, name=call.function.name, arguments_json=call.function.arguments
            )
            for call in message.tool_calls or ()
        ],
        tool_call_id=message.tool_call_id or "",
        reasoning_content=(
            message.reasoning if message.reasoning_content is None else message.reasoning_content
        ),
    )
