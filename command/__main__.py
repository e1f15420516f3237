"""The `headway` command: one door, one place where failures become a line and an exit code."""

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Never

from command.arguments import parser
from command.errors import PREFIX, CommandError

FAILED = 1
INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(parser().parse_args(), sys.argv[1:])
    except CommandError as error:
        print(f"{PREFIX}{error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has had enough (`headway trace | head`). The interpreter would
        # try once more to write the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(number: int, frame: object) -> Never:
    raise KeyboardInterrupt


# Each command imports what it needs itself: `headway --help` answers at once.
def _run(arguments: Namespace, given: Sequence[str]) -> None:
    match arguments.command:
        case "up":
            _up(arguments, given)
        case "down":
            from command.down import down

            down()
        case "ps":
            from command.ps import ps

            ps(arguments.json)
        case "workers":
            _workers(arguments)
        case "drain":
            from command.fleet import drain

            drain(arguments.worker, arguments.scheduler)
        case "trace":
            from command.trace import trace

            trace(arguments.id)
        case "simulate":
            from command.simulate import simulate

            simulate(arguments)
        case "replay":
            from command.replay import replay

            replay(arguments)


def _workers(arguments: Namespace) -> None:
    if arguments.decisions is None:
        from command.fleet import workers

        workers(arguments.json, arguments.scheduler)
    else:
        from command.decisions import decisions

        decisions(arguments.decisions, arguments.json, arguments.scheduler)


def _up(arguments: Namespace, given: Sequence[str]) -> None:
    from command.options import Options

    options = Options.read(arguments)
    if arguments.detach:
        from command.detach import up_detached

        up_detached([argument for argument in given if argument != "--detach"])
    else:
        from command.up import up

        up(options)


if __name__ == "__main__":
    main()
