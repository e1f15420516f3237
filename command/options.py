"""What `headway up` was asked for."""

from argparse import Namespace
from dataclasses import dataclass
from typing import Self

from command.errors import CommandError

ENGINES = ("vllm", "sim")
POLICIES = ("predicted", "least_load", "prefix_hash", "round_robin", "random")
WORKLOADS = ("shared", "unique", "chat", "burst")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The flags of `up`, checked."""

    engine: str = "vllm"
    workers: int = 2
    embedding_workers: int = 1
    tokenizers: int = 1
    edges: int = 1
    model: str = ""  # empty means the demo model
    model_name: str = ""  # empty means the model's own name
    port: int = 8000
    policy: str = "predicted"
    sim: str = ""
    tenants: str = ""
    adapters: tuple[str, ...] = ()  # NAME=PATH
    tool_parser: str = ""  # empty means what the model suggests
    reasoning_parser: str = ""  # empty means what the model suggests
    record: str = ""  # empty means that traffic is not recorded
    start_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        for count, least in self._counts():
            if getattr(self, count) < least:
                flag = count.replace("_", "-")
                raise CommandError(f"--{flag} must be at least {least}, got {getattr(self, count)}")
        if self.policy not in POLICIES:
            raise CommandError(f"--policy {self.policy} is not known; choose {_list(POLICIES)}")
        if not 1 <= self.port <= 65535:
            raise CommandError(f"--port must be 1 to 65535, got {self.port}")
        if self.start_timeout_s <= 0:
            raise CommandError(f"--start-timeout must be positive, got {self.start_timeout_s}")
        if self.sim and self.engine != "sim":
            raise CommandError("--sim needs --engine sim")
        if self.engine == "sim" and (self.tool_parser or self.reasoning_parser):
            raise CommandError("--tool-parser and --reasoning-parser need --engine vllm")
        check_sim(self.sim)
        for adapter in self.adapters:
            check_adapter(adapter)

    @staticmethod
    def _counts() -> tuple[tuple[str, int], ...]:
        return ("workers", 1), ("embedding_workers", 0), ("tokenizers", 1), ("edges", 1)

    @classmethod
    def read(cls, arguments: Namespace) -> Self:
        """From parsed arguments."""
        embedding_workers = arguments.embedding_workers
        if embedding_workers is None:
            # MiniLM needs vLLM, and whoever asks for the simulation wants a quick start.
            embedding_workers = 1 if arguments.engine == "vllm" else 0
        return cls(
            engine=arguments.engine,
            workers=arguments.workers,
            embedding_workers=embedding_workers,
            tokenizers=arguments.tokenizers,
            edges=arguments.edges,
            model=arguments.model,
            model_name=arguments.model_name,
            port=arguments.port,
            policy=arguments.policy,
            sim=arguments.sim,
            tenants=arguments.tenants,
            adapters=tuple(arguments.adapter),
            tool_parser=arguments.tool_parser,
            reasoning_parser=arguments.reasoning_parser,
            record=arguments.record,
            start_timeout_s=arguments.start_timeout,
        )


SIM_KEYS = (
    "base_ms",
    "prefill_us",
    "decode_us",
    "budget",
    "max_running",
    "capacity_blocks",
    "block_size",
    "adapter_load_ms",
    "max_loras",
)


def check_adapter(text: str) -> None:
    """Refuse an `--adapter` that is not NAME=PATH."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise CommandError(f"--adapter must be NAME=PATH, got {text!r}")
    if ";" in text:
        raise CommandError(f"--adapter {text} holds a `;`, which separates adapters")


def check_sim(text: str) -> None:
    """Refuse a `--sim` that is not KEY=VALUE,… with known keys and positive numbers."""
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in SIM_KEYS:
            raise CommandError(f"--sim {key} is not known; choose {_list(SIM_KEYS)}")
        if not _is_number(value):
            raise CommandError(f"--sim {key} must be a number of 0 or more, got {value!r}")


def sim_block_size(text: str) -> str:
    """The `block_size` that a `--sim` text sets, or the simulated engine's own."""
    parts = dict(part.partition("=")[::2] for part in text.split(",") if part)
    return parts.get("block_size", "16")


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)
