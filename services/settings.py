"""Settings from the environment: one frozen dataclass a service, read once."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

C = TypeVar("C")


class SettingError(ValueError):
    """A setting is missing or wrong. The message is one line and names the variable."""


def from_env(cls: type[C], prefix: str, env: Mapping[str, str]) -> C:
    """Build `cls` from the variables `PREFIX_FIELD`; absent ones keep the field's default.

    Fields are `str`, `int`, `float`, `bool` (`0` or `1`), or `tuple[str, ...]` (separated by
    commas). Raises SettingError for a variable that is required and absent, does not parse,
    or is refused by `cls` itself.
    """
    known = {f"{prefix}_{field.name}".upper(): field for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(name for name in env if name.startswith(f"{prefix}_") and name not in known)
    if unknown:
        raise SettingError(f"{unknown[0]} is no setting; known are {', '.join(sorted(known))}")
    values: dict[str, object] = {}
    for name, field in known.items():
        if name in env:
            values[field.name] = _parse(name, field, env[name])
        elif field.default is MISSING:
            raise SettingError(f"{name} must be set")
    try:
        return cls(**values)
    except ValueError as error:
        raise SettingError(str(error)) from error


def _parse(name: str, field: Field[Any], text: str) -> object:
    try:
        return _PARSERS[field.type](text)
    except ValueError as error:
        raise SettingError(f"{name} must be {_KINDS[field.type]}, got {text!r}") from error


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(text)
    return text == "1"


def _texts(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


_PARSERS: Mapping[Any, Any] = {
    str: str,
    int: int,
    float: float,
    bool: _flag,
    tuple[str, ...]: _texts,
}

_KINDS: Mapping[Any, str] = {int: "a whole number", float: "a number", bool: "0 or 1"}
