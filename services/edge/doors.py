"""The doors of the edge: what answers at a path, and which methods it takes. Pure."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from services.edge.http import Message, Receive, Send
from services.edge.refusals import Answer, Refusal, UnknownPath, WrongMethod, answer

Enter = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Door:
    """What answers at a path. One for GET answers HEAD too: the server leaves the body out."""

    taken: tuple[str, ...]
    enter: Enter
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
    """The doors by path. One at a path that ends in `/` answers for all that is below it."""

    def __init__(self, doors: Mapping[str, Door]) -> None:
        self._at = doors
        self._above = {path: door for path, door in doors.items() if path.endswith("/")}
        self.enter = {
            (path, method): door.enter for path, door in doors.items() for method in door.taken
        }
        """What nearly every request enters, found in one look."""

    def find(self, path: str) -> Door | None:
        """The door at this path."""
        door = self._at.get(path)
        return self._below(path) if door is None else door

    def _below(self, path: str) -> Door | None:
        doors = (door for above, door in self._above.items() if path.startswith(above))
        return next(doors, None)


def closed(door: Door | None, method: str, path: str) -> Answer:
    """Why this method does not enter here."""
    if door is None:
        return answer(UnknownPath(method, path))
    return door.refused(WrongMethod(method, door.methods))
