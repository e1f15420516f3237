"""Reads text files, packed or not."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from command.errors import CommandError


@contextmanager
def lines_of(path: str, name: str) -> Iterator[TextIO]:
    """The lines of a file; `name` is what its user calls it. Raises CommandError."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.endswith(".gz")
            else Path(path).open(encoding="utf-8")
        ) as lines:
            yield lines
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"{name}: {why}") from error
