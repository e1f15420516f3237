"""What every parameter of every door gets, by the doors' own declarations. Pure.

`python -m services.edge.apis.conformance` writes docs/conformance.md. A row is not an assertion of
ours: the body that it stands for was read by the door's own parser, and the answer is the
parser's. tests/end_to_end/test_conformance.py sends every row to a running system.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from services.edge.apis.declarations import DOORS, Door, Example
from services.edge.apis.openai import ASKS_NOTHING
from services.edge.apis.refusals import Invalid


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter with a value, and what the door makes of it."""

    door: Door
    parameter: str
    example: Example
    refusal: Invalid | None

    @property
    def body(self) -> dict[str, Any]:
        """The body that the row stands for."""
        return {**self.door.least, **self.example.beside, self.parameter: self.example.value}


def rows(door: Door) -> Iterator[Row]:
    """Every example of every parameter of a door."""
    for parameter, examples in door.examples.items():
        for example in examples:
            row = Row(door, parameter, example, None)
            answer = door.read(msgspec.json.encode(row.body))
            refusal = answer if isinstance(answer, Invalid) else None
            yield Row(door, parameter, example, refusal)


def page() -> str:
    """docs/conformance.md."""
    return _HEAD + "\n".join(map(_section, DOORS))


_HEAD = """# What every parameter gets

Every parameter of every door is honoured, or answered with 400 and this message; none is dropped.
Made by `python -m services.edge.apis.conformance`, from the structs that read the bodies;
tests/end_to_end/test_conformance.py sends every row to a running system. `null` is the same as
absent. A parameter that is in no table is answered as the unsupported ones are.

"""


def _section(door: Door) -> str:
    lines = [
        f"## `POST {door.path}`",
        "",
        "| parameter | takes | for example | gets |",
        "|---|---|---|---|",
        *(_line(row) for row in rows(door)),
        "",
    ]
    return "\n".join(lines)


def _line(row: Row) -> str:
    takes = _takes(row.door, row.parameter)
    gets = "honoured" if row.refusal is None else f"400: {row.refusal.message}"
    cells = (f"`{row.parameter}`", takes, f"`{_shown(row.example)}`", gets)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(example: Example) -> str:
    beside = "".join(f" beside {name}={json.dumps(x)}" for name, x in example.beside.items())
    shown = json.dumps(example.value, ensure_ascii=False) + beside
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"


_LONGEST = 90


def _takes(door: Door, parameter: str) -> str:
    if parameter not in door.body.__struct_fields__:
        if parameter in ASKS_NOTHING:
            return f"not supported, but for `{json.dumps(ASKS_NOTHING[parameter])}`"
        return "not supported"
    (schema,), components = msgspec.json.schema_components([door.body])
    name = schema["$ref"].rpartition("/")[2]
    return _type(components[name]["properties"][parameter])


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return ", ".join(json.dumps(each) for each in schema["enum"] if each is not None)
    limits = [f"{words} {schema[key]}" for key, words in _LIMITS.items() if key in schema]
    named = str(schema.get("type", "any"))
    if named == "array":
        named = f"list of {schema.get('title') or _type(schema.get('items', {}))}"
    return f"{named} ({', '.join(limits)})" if limits else named


_LIMITS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "minItems": "at least",
    "maxItems": "at most",
    "minLength": "at least",
    "maxLength": "at most",
    "maxProperties": "at most",
}

if __name__ == "__main__":
    sys.stdout.write(page())
