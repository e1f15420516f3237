"""compose.yaml, the dashboard and the configurations name only what exists."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.edge.config import Config as EdgeConfig
from services.scheduler.config import Config as SchedulerConfig
from services.settings import from_env
from services.tokenizer.config import Config as TokenizerConfig
from services.worker.config import Config as WorkerConfig

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
THIRD_PARTY = {"collector", "jaeger", "prometheus", "grafana"}
PREPARING = {"models"}
CONFIGS: dict[str, Any] = {
    "edge": EdgeConfig,
    "scheduler": SchedulerConfig,
    "tokenizer": TokenizerConfig,
    "worker": WorkerConfig,
}
OURS = sorted(set(SERVICES) - THIRD_PARTY - PREPARING)


def room_of(service: str) -> str:
    return service.partition("-")[0]


def settings_of(service: str) -> dict[str, str]:
    """The variables of a compose service, with the defaults of what they refer to."""
    prefix = room_of(service).upper()
    given = SERVICES[service]["environment"].items()
    # worker.sh gives each replica its address when it runs.
    address = {"WORKER_ADDRESS": "10.0.0.1:50053"} if prefix == "WORKER" else {}
    expanded = {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in given}
    own = {name: value for name, value in expanded.items() if name.startswith(prefix)}
    return {**address, **own}


def test_every_service_of_ours_has_a_room_and_every_room_a_service() -> None:
    rooms = {path.parent.name for path in ROOT.glob("services/*/__main__.py")}
    assert {room_of(service) for service in OURS} == rooms


@pytest.mark.parametrize("service", OURS)
def test_settings_are_accepted(service: str) -> None:
    from_env(CONFIGS[room_of(service)], room_of(service).upper(), settings_of(service))


def test_workers_and_tokenizer_agree_on_the_block() -> None:
    block = settings_of("tokenizer")["TOKENIZER_BLOCK_SIZE"]
    assert settings_of("worker")["WORKER_BLOCK_SIZE"] == block


def test_models_have_the_same_names_everywhere() -> None:
    models = settings_of("tokenizer")["TOKENIZER_MODELS"]
    for worker in ("worker", "worker-embedding"):
        settings = settings_of(worker)
        names = settings["WORKER_MODEL_NAMES"].replace(",", "|")
        assert f"{names}={settings['WORKER_MODEL']}" in models.split(";")


def test_every_image_is_a_target_of_the_dockerfile_and_none_is_unused() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    gpu = yaml.safe_load((ROOT / "deploy" / "compose.gpu.yaml").read_text())
    used = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    used.add(gpu["x-gpu"]["build"]["target"])
    assert targets - {"build", "base"} == used


def test_every_mounted_file_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source


def test_prometheus_asks_where_the_services_answer() -> None:
    prometheus = yaml.safe_load((ROOT / "observability" / "prometheus.yaml").read_text())
    asked = {
        (name, discovery["port"])
        for job in prometheus["scrape_configs"]
        for discovery in job["dns_sd_configs"]
        for name in discovery["names"]
    }
    listening = {
        (service, int(settings_of(service)[f"{room_of(service)}_metrics_listen".upper()][-4:]))
        for service in OURS
    }
    assert asked == listening


def test_the_dashboard_shows_metrics_that_exist() -> None:
    dashboard = json.loads((ROOT / "observability" / "dashboards" / "headway.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = set(re.findall(r"headway_\w+", " ".join(expressions)))
    known = (ROOT / "observability" / "metrics.yaml").read_text()
    names = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in shown}
    assert not {name for name in names if name not in known}
