"""Vectors as answers hold them. Pure."""

import math
from array import array
from base64 import b64encode
from collections.abc import Sequence
from struct import pack

import msgspec


def shortened(vector: Sequence[float], dimensions: int | None) -> "array[float]":
    """The vector in single precision; with `dimensions`, its beginning at length 1 again."""
    if dimensions is None:
        return array("f", vector)
    beginning = vector[:dimensions]
    length = math.sqrt(math.fsum(value * value for value in beginning)) or 1.0
    return array("f", [value / length for value in beginning])


def written(vector: "array[float]", encoding_format: str) -> bytes:
    """The JSON of a vector: numbers, or the base64 of little-endian floats."""
    if encoding_format == "base64":
        return b'"%b"' % b64encode(pack(f"<{len(vector)}f", *vector))
    return msgspec.json.encode(vector.tolist())
