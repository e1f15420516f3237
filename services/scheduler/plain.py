"""Messages as plain values, for JSON. Pure.

Protobuf's own JSON has large whole numbers as text and floats with digits that were never
measured.
"""

from typing import Any

from google.protobuf.message import Message


def plain(message: Message) -> dict[str, Any]:
    """The fields by name; what is absent is None."""
    return {
        field.name: _plain(field, getattr(message, field.name))
        if _is_there(message, field)
        else None
        for field in message.DESCRIPTOR.fields
    }


# A field's descriptor is Any: which of protobuf's two it is depends on how protobuf was built.
def _is_there(message: Message, field: Any) -> bool:
    return not field.has_presence or message.HasField(field.name)


def _plain(field: Any, value: Any) -> Any:
    if field.is_repeated:
        return [_single(field, each) for each in value]
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        return _word(field, value)
    return round(value, 3) if isinstance(value, float) else value


def _word(field: Any, number: int) -> str:
    """`generate` for WORKER_KIND_GENERATE."""
    values = field.enum_type.values_by_number
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    return str(values[number].name.removeprefix(prefix).lower())
