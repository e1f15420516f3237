"""Promises about the tree itself: lists are compared with reality, both ways."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from services.edge import metrics as edge_metrics
from services.scheduler.metrics import Metrics as SchedulerMetrics
from services.tokenizer.metrics import Metrics as TokenizerMetrics
from services.tokenizer.models import Models
from services.worker.metrics import Metrics as WorkerMetrics

ROOT = Path(__file__).parent.parent
ROOMS = ("tokenizer", "scheduler", "worker", "edge")
PREPARATIONS = ("models",)  # compose services that end when they are done

every_room = pytest.mark.parametrize("room", ROOMS)


@every_room
def test_a_room_is_furnished(room: str) -> None:
    furniture = {file.name for file in (ROOT / "services" / room).iterdir()}
    needed = {"__init__.py", "__main__.py", "config.py", "server.py", "metrics.py", "README.md"}
    assert needed <= furniture


def test_there_are_no_other_rooms() -> None:
    found = {file.parent.name for file in (ROOT / "services").glob("*/__init__.py")}
    assert found == set(ROOMS)


@every_room
def test_a_room_has_tests(room: str) -> None:
    assert list((ROOT / "tests" / room).glob("test_*.py"))


def test_every_contract_belongs_to_a_room() -> None:
    contracts = {file.parts[-3] for file in (ROOT / "protos" / "headway").glob("*/v1/*.proto")}
    assert contracts == set(ROOMS) - {"edge"}


def test_no_file_is_named_after_no_idea() -> None:
    nothing = {"utils", "common", "manager", "helper", "helpers", "misc"}
    files = [
        file
        for top in ("services", "command", "observability", "tests", "bench")
        for file in (ROOT / top).rglob("*.py")
    ]
    assert not [file for file in files if nothing & set(file.stem.split("_"))]


def variables(room: str) -> set[str]:
    config = import_module(f"services.{room}.config").Config
    return {f"{room}_{field.name}".upper() for field in fields(config)}


def mentioned(room: str, text: str) -> set[str]:
    return set(re.findall(rf"\b{room.upper()}_[A-Z0-9_]*[A-Z0-9]\b", text))


@every_room
def test_the_readme_lists_every_setting_and_no_other(room: str) -> None:
    readme = (ROOT / "services" / room / "README.md").read_text()
    assert mentioned(room, readme) == variables(room)


@every_room
def test_a_readme_fits_on_a_screen_or_two(room: str) -> None:
    assert len((ROOT / "services" / room / "README.md").read_text().splitlines()) <= 80


def compose() -> Mapping[str, Any]:
    services: Mapping[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return services


def test_every_compose_service_is_a_room_or_another_project() -> None:
    built = {name for name, service in compose().items() if "build" in service}
    assert {name.split("-")[0] for name in built - set(PREPARATIONS)} == set(ROOMS)
    for name in set(compose()) - built:
        assert not compose()[name]["image"].startswith("headway")


@every_room
def test_compose_sets_only_what_there_is_to_set(room: str) -> None:
    for name, service in compose().items():
        given = set(service.get("environment", {}))
        prefixed = {variable for variable in given if variable.startswith(f"{room.upper()}_")}
        assert prefixed <= variables(room), name


def tokenizer(registry: CollectorRegistry) -> Iterable[object]:
    TokenizerMetrics(registry).show(Models([]))
    return tuple(registry._collector_to_names)


def scheduler(registry: CollectorRegistry) -> Iterable[object]:
    SchedulerMetrics("predicted", registry)
    return tuple(registry._collector_to_names)


def worker(registry: CollectorRegistry) -> Iterable[object]:
    WorkerMetrics(registry).watch(Mock())
    return tuple(registry._collector_to_names)


def edge(_: CollectorRegistry) -> Iterable[object]:
    return vars(edge_metrics).values()


EMITTED: Mapping[str, Callable[[CollectorRegistry], Iterable[object]]] = {
    "tokenizer": tokenizer,
    "scheduler": scheduler,
    "worker": worker,
    "edge": edge,
}


def emitted(room: str) -> dict[str, tuple[str, list[str]]]:
    """Type and labels of each metric, by the name that Prometheus shows."""
    found = {}
    for metric in EMITTED[room](CollectorRegistry()):
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            ending = "_total" if family.type == "counter" else ""
            found[family.name + ending] = (family.type, list(metric._labelnames))
    return found


def listed() -> list[dict[str, Any]]:
    metrics: list[dict[str, Any]] = yaml.safe_load(
        (ROOT / "observability" / "metrics.yaml").read_text()
    )
    return metrics


@every_room
def test_every_metric_is_listed_and_every_listed_one_emitted(room: str) -> None:
    expected = {
        metric["name"]: (metric["type"], metric["labels"])
        for metric in listed()
        if metric["room"] == room
    }
    assert emitted(room) == expected


@pytest.mark.parametrize("metric", listed(), ids=lambda metric: metric["name"])
def test_a_metric_says_its_unit(metric: Mapping[str, Any]) -> None:
    assert set(metric) == {"name", "room", "type", "unit", "labels", "meaning"}
    assert metric["room"] in ROOMS
    stem = metric["name"].removesuffix("_total")
    spoken = ("seconds", "bytes", "ratio", "info")
    assert stem.endswith(f"_{metric['unit']}") or metric["unit"] not in spoken
    assert metric["unit"] in spoken or not stem.endswith(tuple(f"_{unit}" for unit in spoken))


def queried(text: str) -> set[str]:
    return set(re.findall(r"\bheadway_[a-z_]+", text))


@pytest.mark.parametrize(
    "file",
    sorted(
        file.relative_to(ROOT).as_posix()
        for pattern in ("dashboards/*.json", "**/*.rules.yaml", "prometheus.yaml")
        for file in (ROOT / "observability").glob(pattern)
    ),
)
def test_dashboards_and_rules_ask_for_metrics_that_there_are(file: str) -> None:
    names = {metric["name"] for metric in listed()}
    names |= {
        metric["name"] + ending
        for metric in listed()
        if metric["type"] == "histogram"
        for ending in ("_bucket", "_sum", "_count")
    }
    assert queried((ROOT / file).read_text()) <= names
