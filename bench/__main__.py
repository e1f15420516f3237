"""Loads a running system: `python -m bench encode --address 127.0.0.1:50051 -c 16 -n 2000`."""

# Locust patches the standard library for gevent when it is imported, so it comes first.
import locust  # isort: skip
import argparse
import os
import sys
import time
from typing import Any

from gevent.event import Event  # type: ignore[import-untyped]
from locust.env import Environment

from bench.summary import Run, report
from bench.users import USERS, Plan


def main() -> int:
    """Run, print the summary; 1 when any request failed."""
    arguments = _arguments()
    Plan.model = arguments.model
    Plan.prompt_tokens = arguments.prompt_tokens
    Plan.max_tokens = arguments.max_tokens
    Plan.chance.seed(arguments.seed)
    address = arguments.address
    host = f"http://{address}" if arguments.what == "chat" else address
    run = _load(USERS[arguments.what], host, arguments.concurrency, arguments.requests)
    print(report(run))
    return 0 if set(run.statuses) == {"OK"} else 1


def _load(user: type[locust.User], host: str, concurrency: int, requests: int) -> Run:
    """Keep `concurrency` users busy until `requests` were answered."""
    environment = Environment(user_classes=[user], host=host)
    runner = environment.create_local_runner()
    run, finished = Run(), Event()

    def answered(response_time: float, exception: Any, **_: Any) -> None:
        if sum(run.statuses.values()) >= requests:
            return  # of users that were still under way when the last was counted
        run.statuses[_status(exception)] += 1
        if exception is None:
            run.latencies_ms.append(response_time)
        if sum(run.statuses.values()) == requests:
            run.seconds = time.perf_counter() - started_s
            finished.set()

    environment.events.request.add_listener(answered)  # type: ignore[no-untyped-call]
    started_s = time.perf_counter()
    runner.start(concurrency, spawn_rate=concurrency)
    finished.wait()
    runner.quit()
    return run


def _status(exception: Any) -> str:
    if exception is None:
        return "OK"
    return str(exception.code().name) if hasattr(exception, "code") else type(exception).__name__


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", choices=sorted(USERS), help="what to ask for")
    parser.add_argument("--address", required=True, help="host:port of the service")
    parser.add_argument("-c", "--concurrency", type=int, default=16, help="users at once")
    parser.add_argument("-n", "--requests", type=int, default=1000, help="requests in all")
    parser.add_argument("--model", default=Plan.model)
    parser.add_argument("--prompt-tokens", type=int, default=Plan.prompt_tokens)
    parser.add_argument("--max-tokens", type=int, default=Plan.max_tokens)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # gRPC's gevent threads can keep a finished interpreter from ending.
    os._exit(code)
