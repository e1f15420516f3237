from typing import Any

import pytest

from command.options import Options
from command.plan import Machine, Model, Ports, Process, plan, wanted_ports
from services.edge.config import Config as EdgeConfig
from services.scheduler.config import Config as SchedulerConfig
from services.settings import from_env
from services.tokenizer.config import Config as TokenizerConfig
from services.worker.config import Config as WorkerConfig

CHAT = Model("/models/chat", ("smollm2", "SmolLM2-135M-Instruct"))
EMBEDDING = Model("/models/minilm", ("minilm", "all-MiniLM-L6-v2"))
TWO_CORES = Machine(cores=(0, 1))
CONFIGS: dict[str, Any] = {
    "edge": EdgeConfig,
    "scheduler": SchedulerConfig,
    "tokenizer": TokenizerConfig,
    "worker": WorkerConfig,
}


def planned(options: Options, machine: Machine = TWO_CORES) -> dict[str, Process]:
    embedding = EMBEDDING if options.embedding_workers else None
    ports = [ports for _, ports in wanted_ports(options)]
    return {process.name: process for process in plan(options, CHAT, embedding, machine, ports)}


DEFAULT = planned(Options())
SIM = planned(Options(engine="sim", embedding_workers=0, sim="base_ms=20,block_size=8"))


def test_the_scheduler_is_told_the_tenants_weights() -> None:
    ports = [ports for _, ports in wanted_ports(Options(embedding_workers=0))]
    weights = {"acme": 2.0, "other": 0.5}
    planned = plan(Options(embedding_workers=0), CHAT, None, TWO_CORES, ports, weights)
    assert planned[0].env["SCHEDULER_WEIGHTS"] == "acme=2,other=0.5"


def test_traffic_is_recorded_where_it_is_asked_for() -> None:
    recording = planned(Options(record="traffic.jsonl"))["scheduler-0"].env
    assert recording["SCHEDULER_RECORD"] == "traffic.jsonl"
    assert "SCHEDULER_RECORD" not in DEFAULT["scheduler-0"].env


def test_the_default_is_the_whole_system_in_the_order_of_its_start() -> None:
    assert list(DEFAULT) == [
        *("scheduler-0", "tokenizer-0", "worker-0", "worker-1", "worker-2", "edge-0"),
    ]


def test_parsers_are_for_the_chat_workers() -> None:
    parsed = planned(Options(tool_parser="hermes", reasoning_parser="none"))
    for variable, value in (("TOOL", "hermes"), ("REASONING", "none")):
        said = {name: each.env.get(f"WORKER_{variable}_PARSER") for name, each in parsed.items()}
        told = {name for name, parser in said.items() if parser == value}
        assert told == {"worker-0", "worker-1"}


def test_adapters_are_for_the_chat_workers() -> None:
    adapted = planned(Options(adapters=("poet=/poet", "clerk=/clerk")))
    said = {name: each.env.get("WORKER_ADAPTERS") for name, each in adapted.items()}
    both = "poet=/poet;clerk=/clerk"
    assert {name for name, adapters in said.items() if adapters == both} == {"worker-0", "worker-1"}
    assert set(said.values()) == {None, both}


@pytest.mark.parametrize(
    ("process", "variable", "value"),
    [
        pytest.param("scheduler-0", "SCHEDULER_POLICY", "predicted", id="policy"),
        pytest.param("scheduler-0", "SCHEDULER_LISTEN", "127.0.0.1:50052", id="loopback-only"),
        pytest.param(
            "tokenizer-0",
            "TOKENIZER_MODELS",
            "smollm2|SmolLM2-135M-Instruct=/models/chat;minilm|all-MiniLM-L6-v2=/models/minilm",
            id="the-tokenizer-holds-every-pool's-vocabulary",
        ),
        pytest.param("tokenizer-0", "TOKENIZER_BLOCK_SIZE", "32", id="vllm's-block-on-the-cpu"),
        pytest.param("worker-0", "WORKER_BLOCK_SIZE", "32", id="workers-agree-on-the-block"),
        pytest.param("worker-1", "WORKER_ID", "worker-1", id="a-worker-is-called-as-in-ps"),
        pytest.param("worker-1", "WORKER_SCHEDULER", "127.0.0.1:50052", id="workers-join"),
        pytest.param("worker-0", "WORKER_CPU_CORE", "0", id="first-worker-first-core"),
        pytest.param("worker-1", "WORKER_CPU_CORE", "1", id="second-worker-second-core"),
        pytest.param("worker-2", "WORKER_CPU_CORE", "0", id="cores-are-used-again"),
        pytest.param("worker-1", "WORKER_KIND", "generate", id="chat-workers-first"),
        pytest.param("worker-2", "WORKER_KIND", "embed", id="embedding-workers-last"),
        pytest.param("worker-2", "WORKER_MODEL", "/models/minilm", id="each-its-own-model"),
        pytest.param("worker-2", "WORKER_MODEL_NAMES", "minilm,all-MiniLM-L6-v2", id="names"),
        pytest.param("edge-0", "EDGE_POOLS", "smollm2,minilm", id="ready-needs-every-pool"),
        pytest.param("edge-0", "EDGE_TOKENIZERS", "127.0.0.1:50051", id="edge-finds-tokenizer"),
        pytest.param("edge-0", "EDGE_SCHEDULER", "127.0.0.1:50052", id="edge-finds-scheduler"),
        pytest.param("edge-0", "EDGE_LISTEN", "127.0.0.1:8000", id="port"),
        pytest.param("edge-0", "EDGE_REUSE_PORT", "0", id="one-edge-owns-its-port"),
    ],
)
def test_default_settings(process: str, variable: str, value: str) -> None:
    assert DEFAULT[process].env[variable] == value


@pytest.mark.parametrize(
    ("process", "variable", "value"),
    [
        pytest.param("worker-0", "WORKER_ENGINE", "sim", id="workers-simulate"),
        pytest.param("worker-0", "WORKER_SIM", "base_ms=20,block_size=8", id="as-told"),
        pytest.param("tokenizer-0", "TOKENIZER_BLOCK_SIZE", "8", id="the-block-is-the-simulator's"),
        pytest.param("edge-0", "EDGE_POOLS", "smollm2", id="no-embedding-pool"),
    ],
)
def test_simulated_settings(process: str, variable: str, value: str) -> None:
    assert SIM[process].env[variable] == value


def test_embeddings_stay_real_beside_the_simulator() -> None:
    mixed = planned(Options(engine="sim", embedding_workers=1))
    assert mixed["worker-1"].env["WORKER_ENGINE"] == "sim"
    assert mixed["worker-2"].env["WORKER_ENGINE"] == "vllm"


def test_several_edges_share_the_port_and_know_every_tokenizer() -> None:
    wide = planned(Options(edges=2, tokenizers=2, port=9000))
    assert [wide[f"edge-{i}"].address for i in (0, 1)] == ["127.0.0.1:9000"] * 2
    assert wide["edge-0"].metrics_address != wide["edge-1"].metrics_address
    assert wide["edge-1"].env["EDGE_REUSE_PORT"] == "1"
    tokenizers = ",".join(wide[f"tokenizer-{i}"].address for i in (0, 1))
    assert wide["edge-1"].env["EDGE_TOKENIZERS"] == tokenizers


def test_one_core_is_not_pinned() -> None:
    assert planned(Options(), Machine(cores=(0,)))["worker-1"].env["WORKER_CPU_CORE"] == ""


def test_workers_share_out_the_gpus() -> None:
    workers = planned(Options(), Machine(cores=(0, 1), gpus=2))
    devices = [workers[f"worker-{i}"].env["CUDA_VISIBLE_DEVICES"] for i in range(3)]
    assert devices == ["0", "1", "0"]
    assert workers["worker-0"].env["WORKER_CPU_CORE"] == ""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(Options(), id="default"),
        pytest.param(Options(edges=3, tokenizers=3, workers=5), id="many"),
        pytest.param(Options(engine="sim", sim="budget=100", embedding_workers=0), id="sim"),
    ],
)
@pytest.mark.parametrize("machine", [TWO_CORES, Machine((0,), gpus=1)], ids=["cpu", "gpu"])
def test_every_service_accepts_what_is_planned_for_it(options: Options, machine: Machine) -> None:
    for process in planned(options, machine).values():
        from_env(CONFIGS[process.service], process.service.upper(), process.env)


def test_no_two_processes_listen_on_one_port() -> None:
    wanted = wanted_ports(Options(tokenizers=4, workers=9, edges=4))
    ports = [port for service, ports in wanted for port in _own(service, ports)]
    assert len(set(ports)) == len(ports)


def _own(service: str, ports: Ports) -> list[int]:
    return [ports.metrics] if service == "edge" else [ports.serve, ports.metrics]


def test_several_edges_count_in_one_place_each_by_its_name() -> None:
    def told(edges: int, variable: str) -> list[str | None]:
        options = Options(edges=edges, embedding_workers=0)
        ports = [ports for _, ports in wanted_ports(options)]
        made = plan(options, CHAT, None, TWO_CORES, ports, metrics="/state/metrics")
        return [each.env.get(variable) for each in made if each.service == "edge"]

    assert told(2, "PROMETHEUS_MULTIPROC_DIR") == ["/state/metrics"] * 2
    assert told(2, "HEADWAY_NAME") == ["edge-0", "edge-1"]
    assert told(1, "PROMETHEUS_MULTIPROC_DIR") == told(1, "HEADWAY_NAME") == [None]
