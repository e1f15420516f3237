"""The form that an answer must have: from OpenAI's and vLLM's words to the worker's. Pure.

A form that can be read here is checked before any work is queued. What the engine's own compiler
refuses beyond that, a worker says before the first token.
"""

from typing import Any

import msgspec
from llguidance import LLMatcher
from msgspec import Struct

from headway.worker.v1 import worker_pb2 as worker
from services.edge.apis.refusals import Invalid

LIMIT_BYTES = 64 * 2**10
"""Of a schema, an expression or a grammar: compiling takes time that grows with it."""
DEPTH_LIMIT = 64
CHOICES_LIMIT = 1024


class NamedSchema(Struct, forbid_unknown_fields=True):
    """A JSON Schema with a name."""

    name: str
    schema: dict[str, Any] | bool | None = None
    description: str | None = None
    strict: bool | None = None


class FreeText(Struct, tag="text", tag_field="type", forbid_unknown_fields=True):
    """The answer may be any text."""


class JsonObject(Struct, tag="json_object", tag_field="type", forbid_unknown_fields=True):
    """The answer is a JSON object."""


class JsonSchema(Struct, tag="json_schema", tag_field="type", forbid_unknown_fields=True):
    """The answer follows a JSON Schema."""

    json_schema: NamedSchema


ResponseFormat = FreeText | JsonObject | JsonSchema


class StructuredOutputs(Struct, forbid_unknown_fields=True):
    """vLLM's parameter of that name: exactly one form."""

    json: dict[str, Any] | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: dict[str, Any] | str | None = None


def constraint(
    response_format: ResponseFormat | None, structured: StructuredOutputs | None
) -> worker.Constraint | Invalid | None:
    """The form that is asked for, if one is, checked."""
    if structured is not None:
        if response_format is not None and not isinstance(response_format, FreeText):
            return Invalid("structured_outputs excludes response_format", "structured_outputs")
        return _of_structured(structured)
    match response_format:
        case JsonObject():
            return worker.Constraint(any_json_object=worker.AnyJsonObject())
        case JsonSchema(NamedSchema(schema=schema)):
            where = "response_format.json_schema.schema"
            if schema is None:  # any JSON would follow it, a mere null too
                message = f"Missing required parameter: `{where}`"
                return Invalid(message, where, "missing_required_parameter")
            return _of_schema(schema, where)
        case _:
            return None


def _of_structured(asked: StructuredOutputs) -> worker.Constraint | Invalid:
    given = [name for name in asked.__struct_fields__ if getattr(asked, name) is not None]
    if len(given) != 1:
        message = f"Give exactly one form in structured_outputs, not {len(given)}"
        return Invalid(message, "structured_outputs")
    where = f"structured_outputs.{given[0]}"
    match given[0]:
        case "json":
            return _of_schema(asked.json, where)
        case "regex":
            return _of_regex(asked.regex or "", where)
        case "choice":
            return _of_choice(asked.choice or [], where)
        case "grammar":
            return _of_grammar(asked.grammar or "", where)
        case "json_object":
            return _of_any_object(asked.json_object, where)
        case _:
            return _of_tag(asked.structural_tag, where)


def schema_at_fault(schema: object, where: str) -> Invalid | None:
    """Why a JSON Schema cannot be followed, or None."""
    read = _of_schema(schema, where)
    return read if isinstance(read, Invalid) else None


def _of_schema(schema: object, where: str) -> worker.Constraint | Invalid:
    text = schema if isinstance(schema, str) else msgspec.json.encode(schema).decode()
    refused = _unreadable(text, where)
    if refused is not None:
        return refused
    fault = _fault(LLMatcher.grammar_from_json_schema(text))
    if fault:
        return Invalid(f"The JSON Schema cannot be followed: {fault}", where, "invalid_schema")
    return worker.Constraint(json_schema=text)


def _of_regex(regex: str, where: str) -> worker.Constraint | Invalid:
    refused = _too_large(regex, where)
    if refused is not None:
        return refused
    fault = _fault(LLMatcher.grammar_from_regex(regex))
    if fault:
        return Invalid(f"The regular expression cannot be followed: {fault}", where)
    return worker.Constraint(regex=regex)


def _of_choice(choice: list[str], where: str) -> worker.Constraint | Invalid:
    if not 1 <= len(choice) <= CHOICES_LIMIT or not all(choice):
        return Invalid(f"Expected 1 to {CHOICES_LIMIT} texts, none of them empty", where)
    refused = _too_large("".join(choice), where)
    return refused or worker.Constraint(texts=worker.Texts(texts=choice))


def _of_grammar(grammar: str, where: str) -> worker.Constraint | Invalid:
    return _too_large(grammar, where) or worker.Constraint(grammar=grammar)


def _of_any_object(wanted: bool | None, where: str) -> worker.Constraint | Invalid:
    if not wanted:
        return Invalid("Expected true, or another form", where)
    return worker.Constraint(any_json_object=worker.AnyJsonObject())


def _of_tag(tag: object, where: str) -> worker.Constraint | Invalid:
    text = tag if isinstance(tag, str) else msgspec.json.encode(tag).decode()
    return _unreadable(text, where) or worker.Constraint(structural_tag=text)


def _too_large(text: str, where: str) -> Invalid | None:
    if not text:
        return Invalid("Expected a text that is not empty", where)
    if len(text.encode()) > LIMIT_BYTES:
        return Invalid(f"Expected at most {LIMIT_BYTES} bytes", where)
    return None


def _unreadable(text: str, where: str) -> Invalid | None:
    refused = _too_large(text, where)
    if refused is not None:
        return refused
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return Invalid("Expected JSON text", where)
    if not isinstance(value, dict | bool):
        return Invalid("Expected a JSON object", where)
    if _depth(value, DEPTH_LIMIT) > DEPTH_LIMIT:
        return Invalid(f"Expected at most {DEPTH_LIMIT} levels", where)
    return None


def _depth(value: object, limit: int) -> int:
    """Levels of a value; no more than one beyond the limit are looked at."""
    if limit < 0 or not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(each, limit - 1) for each in inner), default=0)


def _fault(grammar: str) -> str:
    """What llguidance says against it, in a line; it quotes the expression over several."""
    lines = LLMatcher.validate_grammar(grammar).splitlines()
    said = next((line for line in lines if line.startswith("error: ")), lines[0] if lines else "")
    return said.removeprefix("error: ")
