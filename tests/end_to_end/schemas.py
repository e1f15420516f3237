"""50 JSON Schemas, the same in every run: whatever follows one of them is short."""

import random
from typing import Any

Schema = dict[str, Any]
COUNT = 50

_NAMES = ("a", "name", "the age", "größe", "x-1", 'in "quotes"', "🌊")
_SCALARS = ("yes", "Ünï", 'say "so"', "", "🌊🎉", -7, 0, 1200, True, False, None)
_PATTERNS = ("^[a-c]{2,4}$", "^x-[0-9]{1,3}y?$", "^(on|off)$", "^[A-Z][a-z]{1,5}$")
_DEPTH = 2  # of what a property may hold


def _leaf(draw: random.Random) -> Schema:
    low, least = draw.randint(-150, 150), draw.randint(0, 3)
    return draw.choice(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["boolean", "null"]},
            {"type": "integer", "minimum": low, "maximum": low + draw.randint(0, 300)},
            {"type": "string", "minLength": least, "maxLength": least + draw.randint(0, 6)},
            {"type": "string", "pattern": draw.choice(_PATTERNS)},
            {"const": draw.choice(_SCALARS)},
            {"enum": draw.sample(_SCALARS, draw.randint(1, 4))},
            {"$ref": "#/$defs/shared"},
        ]
    )


def _array(draw: random.Random, depth: int) -> Schema:
    least = draw.randint(0, 2)
    bounds = {"minItems": least, "maxItems": least + draw.randint(0, 2)}
    return {"type": "array", "items": _schema(draw, depth - 1), **bounds}


def _either(draw: random.Random, depth: int) -> Schema:
    return {"anyOf": [_schema(draw, depth - 1) for _ in range(draw.randint(2, 3))]}


def _object(draw: random.Random, depth: int) -> Schema:
    names = draw.sample(_NAMES, draw.randint(1, 3))
    return {
        "type": "object",
        "properties": {name: _schema(draw, depth - 1) for name in names},
        "required": [name for name in names if draw.random() < 0.7],
        "additionalProperties": False,
    }


def _schema(draw: random.Random, depth: int) -> Schema:
    if depth == 0 or draw.random() < 0.4:
        return _leaf(draw)
    kind = draw.choice((_array, _either, _object))
    return kind(draw, depth)


def _whole(draw: random.Random) -> Schema:
    shared = _object(draw, 1)
    # Whatever is referred to holds no reference, or it would have no end.
    shared["properties"] = {name: {"type": "boolean"} for name in shared["properties"]}
    return {"$defs": {"shared": shared}, **_object(draw, _DEPTH + 1)}


SCHEMAS = {f"{seed:02}": _whole(random.Random(seed)) for seed in range(COUNT)}
