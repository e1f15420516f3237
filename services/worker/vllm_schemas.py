"""What of a JSON Schema xgrammar passes over in silence, beyond what vLLM refuses for it. Pure.

An answer would follow the rest of the schema alone, and nobody would say so.
"""

from collections.abc import Iterator, Mapping
from typing import Any

# xgrammar reads one of these and nothing that stands beside it.
_ALONE = ("$ref", "const", "enum", "anyOf", "oneOf", "allOf")
# It holds values to these only where it knows their type.
_OF_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_OF_TEXTS = ("minLength", "maxLength", "pattern")
_OF_A_TYPE = (*_OF_NUMBERS, *_OF_TEXTS)
_OF_ARRAYS = ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains")
_OF_MEMBERS = ("properties", "patternProperties", "additionalProperties", "propertyNames")
_OF_OBJECTS = (*_OF_MEMBERS, "required", "minProperties", "maxProperties")
_ASSERTIONS = {*_ALONE, *_OF_A_TYPE, *_OF_ARRAYS, *_OF_OBJECTS, "type", "multipleOf", "not"}
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
}


def passed_over(schema: object) -> str:
    """The first part of a schema that an answer would not be held to; empty if there is none."""
    return next(filter(None, map(_of_one, _schemas(schema))), "")


def _schemas(whole: object) -> Iterator[dict[str, Any]]:
    """A schema and all within it; not what `const`, `enum` and `default` hold."""
    left = [whole]
    while left:
        schema = left.pop()
        if isinstance(schema, list):
            left += schema
        elif isinstance(schema, dict):
            yield schema
            for name, inner in schema.items():
                if name in ("properties", "patternProperties", "$defs", "definitions"):
                    left += inner.values() if isinstance(inner, dict) else ()
                elif name not in ("const", "enum", "default", "examples"):
                    left.append(inner)


def _of_one(schema: dict[str, Any]) -> str:
    alone = next((name for name in _ALONE if name in schema), None)
    if alone is not None:
        return _foreign(schema) or _beside(schema, alone)
    loose = next((name for name in _OF_A_TYPE if name in schema), None)
    if loose is not None and "type" not in schema:
        return f"`{loose}` without `type`"
    known = schema.get("properties")
    known = known if isinstance(known, dict) else {}
    missing = next((name for name in _list(schema, "required") if name not in known), None)
    return "" if missing is None else f"`{missing}` in `required` and not in `properties`"


def _list(schema: dict[str, Any], name: str) -> list[Any]:
    """What should be a list; a schema that is none at all is for xgrammar to refuse."""
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _foreign(schema: dict[str, Any]) -> str:
    """A reference by anything but a place in this schema."""
    place = str(schema.get("$ref", "#"))
    return "" if place == "#" or place.startswith("#/") else f"`$ref` to `{place}`"


def _beside(schema: dict[str, Any], alone: str) -> str:
    for name in schema:
        is_implied = name == "type" and _implies(schema, alone)
        if name in _ASSERTIONS and name != alone and not is_implied:
            return f"`{name}` beside `{alone}`"
    return ""


def _implies(schema: dict[str, Any], alone: str) -> bool:
    """Whether what is read says the `type` that stands beside it."""
    types = _listed(schema["type"])
    match alone:
        case "const":
            return _is_of(schema["const"], types)
        case "enum":
            return all(_is_of(value, types) for value in _list(schema, "enum"))
        case "anyOf" | "oneOf" | "allOf":
            return all(
                isinstance(each, dict) and "type" in each and _listed(each["type"]) <= types
                for each in _list(schema, alone)
            )
        case _:
            return False


def _listed(types: object) -> set[str]:
    return set(map(str, types)) if isinstance(types, list) else {str(types)}


def _is_of(value: object, types: set[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    return any(isinstance(value, _TYPES[name]) for name in types if name in _TYPES)
