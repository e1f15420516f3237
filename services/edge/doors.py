"""The doors of the edge: what answers at a path, and which methods it takes. Pure."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from services.edge.apis.refusals import Answer, Refusal, UnknownPath, WrongMethod, answer
from services.edge.http import Message, Receive, Send

Enter = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Door:
    """What answers at a path. One for GET answers HEAD too: the server leaves the body out."""

    taken: tuple[str, ...]
    enter: Enter
    endpoint: str  # its name in metrics
    refused: Callable[[Refusal], Answer] = answer

    @property
    def methods(self) -> str:
        """What the header `Allow` says."""
        heads = ("HEAD",) if "GET" in self.taken else ()
        return ", ".join((*self.taken, *heads, "OPTIONS"))

    def takes(self, method: str) -> bool:
        """Whether this method enters."""
        return method in self.taken or (method == "HEAD" and "GET" in self.taken)


class Doors:
    """The doors by path. One at `/read/{name}` answers whatever the name is."""

    def __init__(self, doors: Mapping[str, Door]) -> None:
        self.at = doors
        self._named = [(_named(path), door) for path, door in doors.items() if "{" in path]
        self.enter = {
            (path, method): door.enter for path, door in doors.items() for method in door.taken
        }
        """What nearly every request enters, found in one look."""

    def find(self, path: str) -> Door | None:
        """The door at this path."""
        door = self.at.get(path)
        if door is None:
            return next((door for named, door in self._named if named.fullmatch(path)), None)
        return door


def _named(path: str) -> re.Pattern[str]:
    """Which paths are meant. A model's name is whatever follows, slashes too."""
    before, name, after = re.split(r"{(\w+)}", path)
    meant = ".*" if name == "model" else "[^/]+"
    return re.compile(f"{re.escape(before)}{meant}{re.escape(after)}", re.DOTALL)


def closed(door: Door | None, method: str, path: str) -> Answer:
    """Why this method does not enter here."""
    if door is None:
        return answer(UnknownPath(method, path))
    return door.refused(WrongMethod(method, door.methods))
