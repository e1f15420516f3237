"""What xgrammar passes over is known: xgrammar itself is asked whether it takes a wrong value."""

import json
from typing import Any

import pytest

from services.worker.vllm_schemas import passed_over

pytestmark = pytest.mark.vllm

FLAG = {"type": "boolean"}
ANCHORED = {"$defs": {"f": {"$anchor": "flag", **FLAG}}, "$ref": "#flag"}
SHORT = {"$defs": {"s": {"type": "string"}}, "$ref": "#/$defs/s", "minLength": 3}
EITHER = {"type": "object", "properties": {"a": FLAG}, "anyOf": [{"required": ["a"]}]}


def takes(schema: Any, value: Any) -> bool:
    """Whether xgrammar lets a model write the value."""
    from xgrammar import Grammar
    from xgrammar.testing import _is_grammar_accept_string

    grammar = Grammar.from_json_schema(json.dumps(schema), any_whitespace=False)
    return bool(_is_grammar_accept_string(grammar, json.dumps(value)))


@pytest.mark.parametrize(
    ("schema", "wrong", "gap"),
    [
        pytest.param(
            {"type": "string", "anyOf": [{}]}, 1, "`type` beside `anyOf`", id="type-beside-any-of"
        ),
        pytest.param(EITHER, {"a": 1}, "`type` beside `anyOf`", id="properties-beside-any-of"),
        pytest.param(
            {"type": "string", "allOf": [{"type": "string"}], "maxLength": 1},
            "ab",
            "`maxLength` beside `allOf`",
            id="beside-all-of",
        ),
        pytest.param(
            {"enum": ["a", "ab"], "maxLength": 1}, "ab", "`maxLength` beside `enum`", id="enum"
        ),
        pytest.param(
            {"type": "string", "enum": ["a", 1]}, 1, "`type` beside `enum`", id="enum-of-two-types"
        ),
        pytest.param(
            {"type": "string", "const": True}, True, "`type` beside `const`", id="another-const"
        ),
        pytest.param(SHORT, "a", "`minLength` beside `$ref`", id="beside-a-reference"),
        pytest.param(ANCHORED, 1, "`$ref` to `#flag`", id="anchor"),
        pytest.param({"maxLength": 1}, "ab", "`maxLength` without `type`", id="length-of-anything"),
        pytest.param({"minimum": 2}, 1, "`minimum` without `type`", id="bound-of-anything"),
        pytest.param(
            {"type": "object", "properties": {"a": FLAG}, "required": ["b"]},
            {"a": True},
            "`b` in `required` and not in `properties`",
            id="a-property-without-schema",
        ),
    ],
)
def test_a_gap_is_named(schema: Any, wrong: Any, gap: str) -> None:
    assert takes(schema, wrong)
    assert passed_over(schema) == gap
    nested = {"type": "object", "properties": {"x": {"type": "array", "items": schema}}}
    assert passed_over(nested) == gap


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        pytest.param({"type": "string", "enum": ["a", "b"]}, "c", id="enum-of-its-type"),
        pytest.param({"type": ["string", "null"], "enum": ["a", None]}, "c", id="enum-of-types"),
        pytest.param({"type": "integer", "const": 3, "title": "x"}, 4, id="const-of-its-type"),
        pytest.param(
            {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, 1, id="optional"
        ),
        pytest.param({"type": "object", "anyOf": [{"type": "object"}]}, 1, id="type-is-said-twice"),
        pytest.param(
            {"$defs": {"f": FLAG}, "$ref": "#/$defs/f", "description": "x"}, 1, id="reference"
        ),
        pytest.param({"properties": {"a": FLAG}, "required": ["a"]}, {"a": 1}, id="no-type"),
        pytest.param(
            {"type": "object", "properties": {"anyOf": FLAG, "type": FLAG}},
            {"anyOf": 1},
            id="keywords-as-names",
        ),
        pytest.param({"const": {"anyOf": [], "maxLength": 3}}, {}, id="keywords-in-a-value"),
    ],
)
def test_what_is_held_to_is_no_gap(schema: Any, wrong: Any) -> None:
    assert not takes(schema, wrong)
    assert passed_over(schema) == ""


def test_what_is_no_schema_has_no_gap() -> None:
    odd = {"type": 3, "enum": 4, "required": 5, "properties": 6, "anyOf": {"a": 1}}
    assert "beside" in passed_over(odd)
    assert passed_over([]) == passed_over(None) == passed_over({"required": 1}) == ""
    assert passed_over({"required": ["a"], "properties": 6})
