"""What the command cannot do, in one line for the person who asked."""

PREFIX = "headway: "


class CommandError(Exception):
    """The message is one line that says what is wrong and what to do."""
