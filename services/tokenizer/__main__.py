"""Starts the tokenizer: `python -m services.tokenizer`, set by the variables `TOKENIZER_…`."""

import os
import sys

import uvloop

from observability.telemetry import start_logs
from services.serving import ListenError
from services.settings import SettingError, from_env
from services.tokenizer.config import Config


def run() -> int:
    """Read the settings and serve; the result is the exit code."""
    try:
        config = from_env(Config, "TOKENIZER", os.environ)
        # transformers would say that there is no torch. There is to be none.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        # Only now: it takes a second to import, for which a wrong setting need not wait.
        from services.tokenizer.wiring import main

        uvloop.run(main(config, start_logs("tokenizer")))
    except (SettingError, ListenError) as error:
        print(f"tokenizer: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run())
