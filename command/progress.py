"""Tells the person who waits how far the start is."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Progress:
    """Lines on standard output; on a terminal also what is waited for, while it is."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """One line, at once."""
        self._console.print(text, markup=False)

    def ready(self, name: str, address: str, seconds: float) -> None:
        """A service became ready."""
        self.line(f"  {name:<12} ready   {address:<22} {seconds:5.1f} s")

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show what is waited for, with a spinner where there is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(text):
            yield


def wide_console() -> Console:
    """For tables: as wide as the terminal, and as wide as needed where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=200)
