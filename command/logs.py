"""What a service said last, for the person who asks why it ended."""

import json
from pathlib import Path

_TAIL_BYTES = 16 * 1024


def last_line(log: Path) -> str:
    """The last line of a log that is not empty; of a JSON line its event."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    return _event(said[-1]) if said else ""


def _event(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict):
        return line
    detail = entry.get("error") or entry.get("reason")
    event = str(entry.get("event", line))
    return f"{event}: {detail}" if detail else event
