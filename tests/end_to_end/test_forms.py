"""Structured output on real vLLM: each kind by each door, and 50 schemas, whole and streamed."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # vLLM brings it, its stubs it does not
import pytest

from tests.end_to_end.answers import Answer, Asked, at_once, chat, completion, message, response
from tests.end_to_end.cases import schema
from tests.end_to_end.schemas import SCHEMAS
from tests.system import System

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
GRAMMAR = """root ::= pair ("," pair)?
pair ::= key "=" [0-9]
key ::= "x" | "y"
"""
TAG = {
    "type": "structural_tag",
    "format": {
        "type": "tag",
        "begin": "<person>",
        "content": {"type": "json_schema", "json_schema": PERSON},
        "end": "</person>",
    },
}
TRIGGERED = {
    "type": "structural_tag",
    "structures": [{"begin": "<person>", "schema": PERSON, "end": "</person>"}],
    "triggers": ["<person>"],
}

Check = Callable[[str], object]


def is_person(text: str) -> None:
    jsonschema.validate(json.loads(text), PERSON)


def is_object(text: str) -> None:
    assert isinstance(json.loads(text), dict)


def matches(pattern: str) -> Check:
    def check(text: str) -> None:
        assert re.fullmatch(pattern, text), text

    return check


def is_tagged(text: str) -> None:
    found = re.fullmatch("<person>(.*)</person>", text, re.DOTALL)
    assert found, text
    is_person(found[1])


def keeps_its_tags(text: str) -> None:
    """Text is free but for what is between the tags."""
    for inner in re.findall("<person>(.*?)</person>", text, re.DOTALL):
        is_person(inner)


def structured(**form: Any) -> dict[str, Any]:
    return {"structured_outputs": form}


FORMS: Mapping[str, tuple[dict[str, Any], Check]] = {
    "object": ({"response_format": {"type": "json_object"}}, is_object),
    "schema": ({"response_format": schema(PERSON)}, is_person),
    "strict-schema": ({"response_format": schema(PERSON, strict=True)}, is_person),
    "loose-schema": ({"response_format": schema(PERSON, strict=False)}, is_person),
    "json": (structured(json=PERSON), is_person),
    "json-text": (structured(json=json.dumps(PERSON)), is_person),
    "any-object": (structured(json_object=True), is_object),
    "regex": (structured(regex="[0-9]{3}-[a-c]{2}"), matches("[0-9]{3}-[a-c]{2}")),
    "regex-unicode": (structured(regex="(é|🌊){2}[^a-z]"), matches("(é|🌊){2}[^a-z]")),
    "choice": (structured(choice=["yes", 'say "no"']), matches('yes|say "no"')),
    "grammar": (structured(grammar=GRAMMAR), matches("[xy]=[0-9](,[xy]=[0-9])?")),
    "lark": (structured(grammar='start: "a" | "b" "c"'), matches("a|bc")),
    "tag": (structured(structural_tag=TAG), is_tagged),
    "triggered-tag": (structured(structural_tag=TRIGGERED), keeps_its_tags),
}
_WHO = "Who is it? Answer in JSON: name, age."
_FLAT = {"type": "json_schema", "name": "x", "schema": PERSON}


def _forms() -> dict[str, tuple[Asked, Check]]:
    """Each kind by each door that has it."""
    found: dict[str, tuple[Asked, Check]] = {}
    for name, (more, check) in FORMS.items():
        found[f"chat-{name}"] = (chat(_WHO, max_tokens=80, **more), check)
        found[f"completion-{name}"] = (completion(f"{_WHO}\n", max_tokens=80, **more), check)
    for name, form in {
        "response-object": {"type": "json_object"},
        "response-schema": _FLAT,
        "response-strict-schema": {**_FLAT, "strict": True},
        "response-loose-schema": {**_FLAT, "strict": False},
    }.items():
        check = is_object if name == "response-object" else is_person
        found[name] = (response(_WHO, max_output_tokens=80, text={"format": form}), check)
    config = {"format": {"type": "json_schema", "schema": PERSON}}
    found["message"] = (message(_WHO, max_tokens=80, output_config=config), is_person)
    return found


ASKED = _forms()
ENDED = {"stop", "completed", "end_turn "}


def whole_and_streamed(url: str, asked: Mapping[str, Asked]) -> dict[str, tuple[Answer, Answer]]:
    both = {name: each for name, each in asked.items()}
    both |= {f"{name} streamed": each.streamed() for name, each in asked.items()}
    answers = at_once(url, both)
    return {name: (answers[name], answers[f"{name} streamed"]) for name in asked}


@pytest.fixture(scope="module")
def of_forms(vllm_system: System) -> dict[str, tuple[Answer, Answer]]:
    return whole_and_streamed(vllm_system.url, {name: asked for name, (asked, _) in ASKED.items()})


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_has_its_form(of_forms: dict[str, tuple[Answer, Answer]], name: str) -> None:
    whole, streamed = of_forms[name]
    assert whole == streamed
    if "triggered" not in name:  # whose text is free
        assert whole.choices[0].ended in ENDED
    ASKED[name][1](whole.text)


@pytest.fixture(scope="module")
def of_schemas(vllm_system: System) -> dict[str, tuple[Answer, Answer]]:
    asked = {
        name: chat("An example, in JSON.", max_tokens=400, response_format=schema(form))
        for name, form in SCHEMAS.items()
    }
    return whole_and_streamed(vllm_system.url, asked)


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_answer_follows_its_schema(
    of_schemas: dict[str, tuple[Answer, Answer]], name: str
) -> None:
    whole, streamed = of_schemas[name]
    assert whole == streamed
    assert whole.choices[0].ended == "stop"
    jsonschema.Draft202012Validator(SCHEMAS[name]).validate(json.loads(whole.text))
