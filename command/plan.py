"""Which processes make up a system, and with which settings. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from command.options import Options, sim_block_size

HOST = "127.0.0.1"

# vLLM's smallest on the CPU, and its usual one on a GPU.
CPU_BLOCK_SIZE = "32"
GPU_BLOCK_SIZE = "16"

# `up` promises to end within 10 s, so a drain must take less.
DRAIN_S = "4"


@dataclass(frozen=True, slots=True)
class Model:
    """A model directory, and the names under which it is served; the first is the main one."""

    path: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides where workers run: the cores this process may use, and the GPUs."""

    cores: tuple[int, ...]
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a process listens."""

    serve: int
    metrics: int


@dataclass(frozen=True, slots=True)
class Process:
    """One process to run. `env` is what it gets beside the environment of `up`."""

    service: str
    index: int
    address: str
    metrics_address: str
    env: Mapping[str, str]

    @property
    def name(self) -> str:
        """Such as `worker-0`: its log, and for a worker its id."""
        return f"{self.service}-{self.index}"


def wanted_ports(options: Options) -> list[tuple[str, Ports]]:
    """Each process's service and the ports it would like, in the order of the plan."""
    workers = options.workers + options.embedding_workers
    return [
        ("scheduler", Ports(50052, 50152)),
        ("tokenizer", Ports(50051, 50151)),
        *(("tokenizer", Ports(50052 + i, 50152 + i)) for i in range(1, options.tokenizers)),
        *(("worker", Ports(50061 + i, 50161 + i)) for i in range(workers)),
        *(("edge", Ports(options.port, 50141 + i)) for i in range(options.edges)),
    ]


def plan(
    options: Options,
    chat: Model,
    embedding: Model | None,
    machine: Machine,
    ports: Sequence[Ports],
    weights: Mapping[str, float] = MappingProxyType({}),
    metrics: str = "",
) -> tuple[Process, ...]:
    """The processes in the order of their start; `ports` are in that of `wanted_ports`.

    `weights` are the tenants' shares, by name. `metrics` is the directory in which several edges
    keep what they count, to answer for one another.
    """
    given = iter(ports)
    pools = [chat] if embedding is None else [chat, embedding]
    scheduler = _process("scheduler", 0, next(given), _scheduler(options, weights))
    tokenizers = [
        _process("tokenizer", index, next(given), _tokenizer(options, machine, pools))
        for index in range(options.tokenizers)
    ]
    workers = [
        _process(
            "worker",
            index,
            next(given),
            _worker(options, machine, index, model, scheduler.address),
            _devices(machine, index),
        )
        for index, model in enumerate(_models(options, chat, embedding))
    ]
    edges = [
        _process(
            "edge",
            index,
            next(given),
            _edge(options, pools, tokenizers, scheduler),
            _together(options, index, metrics),
        )
        for index in range(options.edges)
    ]
    return (scheduler, *tokenizers, *workers, *edges)


def _process(
    service: str,
    index: int,
    ports: Ports,
    settings: Mapping[str, str],
    others: Mapping[str, str] | None = None,
) -> Process:
    address, metrics = f"{HOST}:{ports.serve}", f"{HOST}:{ports.metrics}"
    common = {"LISTEN": address, "METRICS_LISTEN": metrics, "DRAIN_S": DRAIN_S}
    prefix = service.upper()
    env = {f"{prefix}_{name}": value for name, value in {**common, **settings}.items()}
    return Process(service, index, address, metrics, {**env, **(others or {})})


def _models(options: Options, chat: Model, embedding: Model | None) -> list[Model]:
    embedders = [] if embedding is None else [embedding] * options.embedding_workers
    return [chat] * options.workers + embedders


def _scheduler(options: Options, weights: Mapping[str, float]) -> dict[str, str]:
    shares = ",".join(f"{tenant}={weight:g}" for tenant, weight in weights.items())
    recording = {"RECORD": options.record} if options.record else {}
    return {"POLICY": options.policy, "WEIGHTS": shares, **recording}


def _tokenizer(options: Options, machine: Machine, pools: Sequence[Model]) -> dict[str, str]:
    return {
        "MODELS": ";".join(f"{'|'.join(model.names)}={model.path}" for model in pools),
        "BLOCK_SIZE": block_size(options, machine),
    }


def _worker(
    options: Options, machine: Machine, index: int, model: Model, scheduler: str
) -> dict[str, str]:
    embeds = index >= options.workers
    simulated = options.engine == "sim" and not embeds
    return {
        "ID": f"worker-{index}",
        "SCHEDULER": scheduler,
        "MODEL": model.path,
        "MODEL_NAMES": ",".join(model.names),
        "KIND": "embed" if embeds else "generate",
        **({"ADAPTERS": ";".join(options.adapters)} if options.adapters and not embeds else {}),
        **({} if embeds else _parsers(options)),
        **(_simulated(options) if simulated else _real(options, machine, index)),
    }


def _parsers(options: Options) -> dict[str, str]:
    chosen = {
        "TOOL_PARSER": options.tool_parser,
        "REASONING_PARSER": options.reasoning_parser,
    }
    return {name: parser for name, parser in chosen.items() if parser}


def _simulated(options: Options) -> dict[str, str]:
    return {"ENGINE": "sim", "SIM": options.sim}


def _real(options: Options, machine: Machine, index: int) -> dict[str, str]:
    pinned = machine.gpus == 0 and len(machine.cores) > 1
    return {
        "ENGINE": "vllm",
        "BLOCK_SIZE": block_size(options, machine),
        "CPU_CORE": str(machine.cores[index % len(machine.cores)]) if pinned else "",
    }


def _devices(machine: Machine, index: int) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": str(index % machine.gpus)} if machine.gpus else {}


def _edge(
    options: Options, pools: Sequence[Model], tokenizers: Sequence[Process], scheduler: Process
) -> dict[str, str]:
    return {
        "TOKENIZERS": ",".join(tokenizer.address for tokenizer in tokenizers),
        "SCHEDULER": scheduler.address,
        "POOLS": ",".join(model.names[0] for model in pools),
        "TENANTS": options.tenants,
        "REUSE_PORT": "1" if options.edges > 1 else "0",
    }


def _together(options: Options, index: int, metrics: str) -> dict[str, str]:
    """What several edges need to answer for one another: services/edge/scraping.py."""
    if options.edges == 1:
        return {}
    return {"PROMETHEUS_MULTIPROC_DIR": metrics, "HEADWAY_NAME": f"edge-{index}"}


def block_size(options: Options, machine: Machine) -> str:
    """Tokens in a block: workers and tokenizer have to agree on it."""
    if options.engine == "sim":
        return sim_block_size(options.sim)
    return GPU_BLOCK_SIZE if machine.gpus else CPU_BLOCK_SIZE
