"""Whatever the OpenAPI document allows or forbids, a system answers as the document says it does.

Schemathesis makes the requests, by the document as the system serves it: a status, a content type,
a header or a body that is not documented fails, and so do a 5xx and a wrong body that is taken.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import positive_data_acceptance
from schemathesis.schemas import BaseSchema

from services.edge.apis.declarations import DOORS, Door
from services.edge.apis.openapi import GLANCES
from tests.system import System

EXAMPLES = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# A body may be right by its schema and wrong in what its parts say together.
UNCHECKED = [positive_data_acceptance]
# By default an answer goes on until the context is full, and 128 of them are allowed.
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n", "min_tokens")
POSTED = [(door, path) for door in DOORS for path in door.paths]
EMBEDDING = [(door, path) for door, path in POSTED if door.least["model"] == "minilm"]
BOTH = pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)


@pytest.fixture(scope="module")
def described(sim_system: System) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{sim_system.url}/openapi.json")


def ask_all(schema: BaseSchema, path: str, door: Door, mode: GenerationMode) -> Counter[int]:
    """Ask what Schemathesis makes up; how often there was which status."""
    statuses: Counter[int] = Counter()

    @EXAMPLES
    @given(schema[path]["POST"].as_strategy(mode))
    def ask(case: "Case[Any]") -> None:
        if mode is GenerationMode.POSITIVE:  # else it stays as wrong as it is
            assert isinstance(case.body, dict)
            case.body = bounded(case.body, door)
        answer = case.call_and_validate(excluded_checks=UNCHECKED, timeout=20)
        statuses[answer.status_code] += 1

    ask()
    return statuses


def bounded(body: Mapping[str, Any], door: Door) -> dict[str, Any]:
    """A right body, for a model that there is and a short answer."""
    given = {name: value for name, value in body.items() if value is not None}
    limits = {name: min(given[name], 2) for name in LIMITS if name in given}
    if len(body) % 2:  # all at once are rarely taken
        names = sorted(given.keys() - door.least.keys())[: len(body) // 6 + 1]
        given = {**door.least, **{name: given[name] for name in names}}
    default = {name: door.least[name] for name in LIMITS if name in door.least}
    limits = {name: limit for name, limit in limits.items() if name in given}
    return {**default, **given, **limits, "model": door.least["model"]}


@BOTH
@pytest.mark.parametrize(("door", "path"), POSTED, ids=[path for _, path in POSTED])
def test_a_posted_body(described: BaseSchema, door: Door, path: str, mode: GenerationMode) -> None:
    statuses = ask_all(described, path, door, mode)
    embeds = (door, path) in EMBEDDING  # here is no worker that does
    right = 404 if embeds else 200
    assert statuses[right if mode is GenerationMode.POSITIVE else 400] > 0, statuses


@pytest.mark.vllm
@pytest.mark.parametrize(("door", "path"), EMBEDDING, ids=[path for _, path in EMBEDDING])
def test_a_posted_body_for_a_model_that_embeds(vllm_system: System, door: Door, path: str) -> None:
    schema = schemathesis.openapi.from_url(f"{vllm_system.url}/openapi.json")
    assert ask_all(schema, path, door, GenerationMode.POSITIVE)[200] > 0


@pytest.mark.parametrize("glance", GLANCES, ids=lambda glance: f"{glance.method}-{glance.path}")
def test_no_body(described: BaseSchema, glance: Any) -> None:
    @EXAMPLES
    @given(described[glance.path][glance.method].as_strategy(GenerationMode.POSITIVE))
    def ask(case: "Case[Any]") -> None:
        case.call_and_validate(timeout=20)

    ask()


def test_what_there_is(described: BaseSchema, sim_system: System) -> None:
    asked = {"model": "smollm2", "input": "Hi.", "max_output_tokens": 2}
    kept = httpx.post(f"{sim_system.url}/v1/responses", json=asked).json()["id"]
    response = {"response_id": kept}
    for method, path, named, status in (
        ("GET", "/v1/models/{model}", {"model": "smollm2"}, 200),
        ("GET", "/v1/responses/{response_id}", response, 200),
        ("POST", "/v1/responses/{response_id}/cancel", response, 400),
        ("DELETE", "/v1/responses/{response_id}", response, 200),
        ("DELETE", "/v1/responses/{response_id}", response, 404),
    ):
        case = described[path][method].Case(path_parameters=named)
        assert case.call_and_validate(timeout=20).status_code == status
