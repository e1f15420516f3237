"""Forms of answers: each is checked at the door, and said in the worker's words."""

import json
from typing import Any

import pytest

from headway.worker.v1 import worker_pb2 as worker
from services.edge.apis.ask import Ask, chat_ask
from services.edge.apis.refusals import Invalid
from services.edge.apis.structure import CHOICES_LIMIT, DEPTH_LIMIT, LIMIT_BYTES

USER = {"role": "user", "content": "hi"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}


def asked(**more: Any) -> Ask | Invalid:
    return chat_ask(json.dumps({"model": "m", "messages": [USER], **more}).encode())


def schema_format(schema: Any) -> dict[str, Any]:
    named = {"name": "x", "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("more", "constraint"),
    [
        pytest.param({"response_format": {"type": "text"}}, None, id="free-text"),
        pytest.param(
            {"response_format": {"type": "json_object"}},
            worker.Constraint(any_json_object=worker.AnyJsonObject()),
            id="any-object",
        ),
        pytest.param(
            schema_format({"type": "object"}),
            worker.Constraint(json_schema='{"type":"object"}'),
            id="a-schema",
        ),
        pytest.param(
            {"structured_outputs": {"json": '{"type": "object"}'}},
            worker.Constraint(json_schema='{"type": "object"}'),
            id="a-schema-as-text",
        ),
        pytest.param(
            {"structured_outputs": {"regex": "[0-9]+"}},
            worker.Constraint(regex="[0-9]+"),
            id="a-regex",
        ),
        pytest.param(
            {"structured_outputs": {"choice": ["yes", "no"]}},
            worker.Constraint(texts=worker.Texts(texts=["yes", "no"])),
            id="choices",
        ),
        pytest.param(
            {"structured_outputs": {"grammar": 'root ::= "a"'}},
            worker.Constraint(grammar='root ::= "a"'),
            id="a-grammar",
        ),
        pytest.param(
            {"structured_outputs": {"json_object": True}},
            worker.Constraint(any_json_object=worker.AnyJsonObject()),
            id="vllms-any-object",
        ),
        pytest.param(
            {"structured_outputs": {"structural_tag": {"type": "structural_tag"}}},
            worker.Constraint(structural_tag='{"type":"structural_tag"}'),
            id="a-structural-tag",
        ),
    ],
)
def test_a_form_is_the_workers_constraint(
    more: dict[str, Any], constraint: worker.Constraint | None
) -> None:
    ask = asked(**more)
    assert isinstance(ask, Ask)
    sampling = ask.sampling()
    assert (sampling.constraint if sampling.HasField("constraint") else None) == constraint


STRUCTURED = "structured_outputs"
IN_FORMAT = "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        pytest.param(schema_format({"type": "nonsense"}), IN_FORMAT, id="no-such-type"),
        pytest.param(schema_format({"$ref": "#/nowhere"}), IN_FORMAT, id="dangling-reference"),
        pytest.param(
            schema_format({"type": "string", "pattern": "("}), IN_FORMAT, id="broken-pattern"
        ),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            IN_FORMAT,
            id="no-schema",
        ),
        pytest.param(schema_format({"not": {}}), IN_FORMAT, id="what-nobody-follows"),
        pytest.param(schema_format(nested(DEPTH_LIMIT)), IN_FORMAT, id="too-deep"),
        pytest.param(
            schema_format({"enum": ["x" * LIMIT_BYTES]}), IN_FORMAT, id="too-large-a-schema"
        ),
        pytest.param({STRUCTURED: {"json": "{"}}, f"{STRUCTURED}.json", id="no-json"),
        pytest.param({STRUCTURED: {"json": "7"}}, f"{STRUCTURED}.json", id="a-number"),
        pytest.param({STRUCTURED: {"regex": "("}}, f"{STRUCTURED}.regex", id="unclosed-group"),
        pytest.param({STRUCTURED: {"regex": "(?=a)b"}}, f"{STRUCTURED}.regex", id="look-ahead"),
        pytest.param({STRUCTURED: {"regex": ""}}, f"{STRUCTURED}.regex", id="empty-regex"),
        pytest.param({STRUCTURED: {"choice": []}}, f"{STRUCTURED}.choice", id="no-choice"),
        pytest.param({STRUCTURED: {"choice": ["a", ""]}}, f"{STRUCTURED}.choice", id="empty-text"),
        pytest.param(
            {STRUCTURED: {"choice": ["a"] * (CHOICES_LIMIT + 1)}},
            f"{STRUCTURED}.choice",
            id="too-many-choices",
        ),
        pytest.param({STRUCTURED: {"grammar": ""}}, f"{STRUCTURED}.grammar", id="empty-grammar"),
        pytest.param(
            {STRUCTURED: {"json_object": False}}, f"{STRUCTURED}.json_object", id="not-wanted"
        ),
        pytest.param({STRUCTURED: {}}, STRUCTURED, id="no-form"),
        pytest.param({STRUCTURED: {"regex": "a", "choice": ["b"]}}, STRUCTURED, id="two-forms"),
        pytest.param(
            {STRUCTURED: {"regex": "a"}, "response_format": {"type": "json_object"}},
            STRUCTURED,
            id="both-words-for-it",
        ),
        pytest.param({STRUCTURED: {"guided": 1}}, f"{STRUCTURED}.guided", id="unknown-form"),
    ],
)
def test_a_form_that_cannot_be_followed_is_refused_by_name(
    more: dict[str, Any], param: str
) -> None:
    refused = asked(**more)
    assert isinstance(refused, Invalid)
    assert refused.param == param
    assert "\n" not in refused.message


def test_a_refused_expression_is_not_quoted() -> None:
    refused = asked(structured_outputs={"regex": "(secret"})
    assert isinstance(refused, Invalid)
    assert "secret" not in refused.message
