"""schemathesis against the edge's own document: no fault, no status that it does not name."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from services.edge.openapi import document
from tests.system import System, system

schema = schemathesis.openapi.from_dict(json.loads(document()))
CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("openapi")
    with system(home, "--engine", "sim", "--workers", "1", "--sim", "base_ms=1") as up:
        yield up


@schema.parametrize()
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_a_door(case: Any, running: System) -> None:
    response = case.call(base_url=running.url, timeout=60)
    case.validate_response(response, checks=CHECKS)


def test_the_document_is_served(running: System) -> None:
    answer = httpx.get(f"{running.url}/openapi.json")
    assert answer.content == document()
    assert "POST /v1/chat/completions" in httpx.get(f"{running.url}/docs").text
