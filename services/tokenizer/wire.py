"""Messages to values and back. Messages do not go past the adapter."""

from typing import assert_never

import grpc

from headway.tokenizer.v1 import tokenizer_pb2 as pb
from services.blocks import read_hashes
from services.tokenizer.encoding import Report
from services.tokenizer.models import Model
from services.tokenizer.outcomes import (
    EmptyPrompt,
    Encoded,
    OutsideVocabulary,
    Refusal,
    TemplateRefused,
    UnknownModel,
)
from services.tokenizer.prompt import Chat, Message, Prompt, Text, TokenIds, Tool, ToolCall

STATUS = {
    pb.REFUSAL_REASON_UNKNOWN_MODEL: grpc.StatusCode.NOT_FOUND,
    pb.REFUSAL_REASON_TEMPLATE: grpc.StatusCode.INVALID_ARGUMENT,
    pb.REFUSAL_REASON_VOCABULARY: grpc.StatusCode.INVALID_ARGUMENT,
    pb.REFUSAL_REASON_EMPTY: grpc.StatusCode.INVALID_ARGUMENT,
}

ENCODERS = {"fastokens": pb.ENCODER_FASTOKENS, "tokenizers": pb.ENCODER_TOKENIZERS}


def read_prompt(message: pb.EncodeRequest) -> Prompt:
    """One prompt."""
    special = message.add_special_tokens if message.HasField("add_special_tokens") else None
    return Prompt(message.model, _read_input(message), message.adapter, message.cache_salt, special)


def _read_input(message: pb.EncodeRequest) -> Chat | Text | TokenIds:
    match message.WhichOneof("input"):
        case "chat":
            return _read_chat(message.chat)
        case "text":
            return Text(message.text)
        case _:
            # No input at all is read as no ids: an empty prompt.
            return TokenIds(tuple(message.token_ids.ids))


def _read_chat(chat: pb.Chat) -> Chat:
    return Chat(
        messages=tuple(_read_message(message) for message in chat.messages),
        tools=tuple(_read_tool(tool) for tool in chat.tools),
        add_generation_prompt=(
            chat.add_generation_prompt if chat.HasField("add_generation_prompt") else None
        ),
        continue_final_message=chat.continue_final_message,
        template_kwargs_json=chat.template_kwargs_json,
        reasoning_effort=chat.reasoning_effort,
    )


def _read_message(message: pb.Message) -> Message:
    return Message(
        message.role,
        message.content if message.HasField("content") else None,
        message.name,
        tuple(ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls),
        message.tool_call_id,
        message.reasoning_content if message.HasField("reasoning_content") else None,
    )


def _read_tool(tool: pb.Tool) -> Tool:
    strict = tool.strict if tool.HasField("strict") else None
    return Tool(tool.name, tool.description, tool.parameters_json, strict)


def write_timings(report: Report, received_ns: int, answered_ns: int) -> pb.EncodeTimings:
    """Where the time from receipt to answer went; what was not work was waiting."""
    render_ns = report.rendered_ns - report.started_ns
    tokenize_ns = report.ended_ns - report.rendered_ns
    waiting_ns = answered_ns - received_ns - render_ns - tokenize_ns
    return pb.EncodeTimings(
        queue_us=waiting_ns // 1000,
        render_us=render_ns // 1000,
        tokenize_us=tokenize_ns // 1000,
    )


def write_result(report: Report, received_ns: int, answered_ns: int) -> pb.EncodeResult:
    """One prompt's result in a batch."""
    outcome = report.outcome
    if not isinstance(outcome, Encoded):
        return pb.EncodeResult(refused=write_refusal(outcome))
    return pb.EncodeResult(
        encoded=pb.Encoded(
            token_ids=outcome.token_ids,
            block_hashes=outcome.block_hashes,
            block_size=outcome.block_size,
            timings=write_timings(report, received_ns, answered_ns),
        )
    )


def write_response(encoded: pb.Encoded) -> pb.EncodeResponse:
    """The same prompt as a plain call's answer, in numbers."""
    return pb.EncodeResponse(
        token_ids=memoryview(encoded.token_ids).cast("I").tolist(),
        block_hashes=read_hashes(encoded.block_hashes),
        block_size=encoded.block_size,
        timings=encoded.timings,
    )


def write_refusal(refusal: Refusal) -> pb.Refused:
    """The refusal's kind, and a sentence for the caller."""
    match refusal:
        case UnknownModel(name, known):
            return pb.Refused(
                reason=pb.REFUSAL_REASON_UNKNOWN_MODEL,
                message=f"the model {name!r} is not held here; known are {', '.join(known)}",
            )
        case TemplateRefused(why, parameter):
            return pb.Refused(reason=pb.REFUSAL_REASON_TEMPLATE, message=why, parameter=parameter)
        case OutsideVocabulary(token_id, size):
            return pb.Refused(
                reason=pb.REFUSAL_REASON_VOCABULARY,
                message=f"token id {token_id} is not in the vocabulary: ids end at {size - 1}",
            )
        case EmptyPrompt():
            return pb.Refused(reason=pb.REFUSAL_REASON_EMPTY, message="the prompt has no tokens")
        case unreachable:
            assert_never(unreachable)


def write_model(model: Model) -> pb.Model:
    """A model, as `ListModels` shows it."""
    return pb.Model(
        name=model.name,
        vocabulary_size=model.vocabulary.size,
        block_size=model.chain.block_size,
        has_chat_template=model.template is not None,
        encoder=ENCODERS[model.vocabulary.encoder.name],
    )
