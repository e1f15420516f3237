"""The command line of `headway`."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from importlib.metadata import version

from command.options import ENGINES, POLICIES, WORKLOADS

_DESCRIPTION = """\
An OpenAI-compatible inference gateway for fleets of vLLM workers, on this machine.

The state is kept in $HEADWAY_STATE, by default .headway/ in the working directory."""


def parser() -> ArgumentParser:
    """All commands with their flags."""
    top = ArgumentParser(
        prog="headway",
        description=_DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"headway {version('headway')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_up(commands)
    commands.add_parser("down", help="stop what runs here")
    ps = commands.add_parser("ps", help="list the processes")
    ps.add_argument("--json", action="store_true", help="a list of objects")
    _add_workers(commands)
    trace = commands.add_parser("trace", help="show where a request's time to first token went")
    trace.add_argument("id", nargs="?", default="", help="request or trace id; else the latest")
    _add_simulate(commands)
    _add_replay(commands)
    drain = commands.add_parser("drain", help="take a worker out: it finishes what it has")
    drain.add_argument("worker", help="the worker's id, such as worker-0")
    _add_scheduler(drain)
    return top


def _add_up(commands: "_SubParsersAction[ArgumentParser]") -> None:
    up = commands.add_parser("up", help="run the whole system on this machine", allow_abbrev=False)
    up.add_argument("--engine", choices=ENGINES, default="vllm", help="what the workers run")
    up.add_argument("--workers", type=int, default=2, metavar="N", help="chat workers")
    up.add_argument("--embedding-workers", type=int, metavar="N", help="1; with --engine sim 0")
    up.add_argument("--tokenizers", type=int, default=1, metavar="N")
    up.add_argument("--edges", type=int, default=1, metavar="N", help="they share the port")
    up.add_argument("--model", default="", metavar="PATH", help="model directory, or cached id")
    up.add_argument("--model-name", default="", metavar="NAME", help="the name it is served under")
    up.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a LoRA adapter of the model; may be given several times",
    )
    text = "vLLM's parser of the model's calls, or `none`; by default as its template suggests"
    up.add_argument("--tool-parser", default="", metavar="NAME", help=text)
    text = "vLLM's parser of the model's reasoning, or `none`; by default as its name suggests"
    up.add_argument("--reasoning-parser", default="", metavar="NAME", help=text)
    up.add_argument("--port", type=int, default=8000, help="HTTP port of the edge")
    up.add_argument("--policy", default="predicted", metavar="NAME", help=", ".join(POLICIES))
    up.add_argument("--sim", default="", metavar="KEY=VALUE,…", help="the simulated engine")
    up.add_argument("--tenants", default="", metavar="FILE", help="who may call, by API key")
    up.add_argument("--record", default="", metavar="FILE", help="traffic, for `replay`")
    up.add_argument("--start-timeout", type=float, default=600, metavar="S", help="seconds")
    up.add_argument("--detach", action="store_true", help="return when everything is ready")


def _add_workers(commands: "_SubParsersAction[ArgumentParser]") -> None:
    text = "list the workers as the scheduler sees them, or its last decisions"
    workers = commands.add_parser("workers", help=text, description=text, allow_abbrev=False)
    workers.add_argument(
        "--decisions",
        type=int,
        nargs="?",
        const=20,
        metavar="N",
        help="the last N decisions (20): what was predicted, and what came true",
    )
    workers.add_argument("--json", action="store_true", help="all that is known")
    _add_scheduler(workers)


def _add_scheduler(command: ArgumentParser) -> None:
    text = "its gRPC address; by default that of the system that runs here"
    command.add_argument("--scheduler", default="", metavar="HOST:PORT", help=text)


def _add_replay(commands: "_SubParsersAction[ArgumentParser]") -> None:
    text = "decide recorded traffic again, in virtual time, beside what really happened"
    replay = commands.add_parser("replay", help=text, description=text, allow_abbrev=False)
    replay.add_argument(
        "file", metavar="FILE", help="of `up --record` or SCHEDULER_RECORD; .gz too"
    )
    replay.add_argument("--policy", default="", metavar="NAME,…", help="by default all")
    replay.add_argument("--model", default="", metavar="NAME", help="by default the busiest")
    replay.add_argument("--workers", type=int, metavar="N", help="by default as many as there were")
    replay.add_argument(
        "--speed", type=float, default=1.0, metavar="X", help="arrivals X times as fast"
    )
    replay.add_argument(
        "--sim",
        default="",
        metavar="KEY=VALUE,…",
        help="step costs; by default as they were learned",
    )
    replay.add_argument("--seed", type=int, default=0)
    replay.add_argument("--plot", default="", metavar="FILE.png", help="draw the table too")


def _add_simulate(commands: "_SubParsersAction[ArgumentParser]") -> None:
    text = "what a fleet would do under each policy, in virtual time"
    sim = commands.add_parser("simulate", help=text, description=text, allow_abbrev=False)
    sim.add_argument("--trace", default="", metavar="FILE", help="Mooncake JSON lines, also .gz")
    sim.add_argument("--workload", default="shared", metavar="NAME", help=", ".join(WORKLOADS))
    sim.add_argument("--requests", type=int, metavar="N", help="the first N; made up: 2000")
    sim.add_argument("--workers", type=int, default=8, metavar="N", help="1 to 1000")
    sim.add_argument("--policy", default="", metavar="NAME,…", help="by default all")
    sim.add_argument("--speed", type=float, metavar="X", help="arrivals X times as fast")
    sim.add_argument(
        "--load", type=float, metavar="PART", help="0.8; of what round_robin can serve at most"
    )
    sim.add_argument("--capacity-blocks", type=int, default=1500, metavar="N", help="of 512 tokens")
    sim.add_argument(
        "--sim", default="", metavar="KEY=VALUE,…", help="step costs; by default like an H100's"
    )
    sim.add_argument("--seed", type=int, default=0)
    sim.add_argument("--plot", default="", metavar="FILE.png", help="draw the table too")
