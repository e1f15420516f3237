"""The OpenAPI document is one, is whole, and tells what is really answered."""

import json

import jsonschema_rs
import pytest
import schemathesis

from services.edge.apis.declarations import DOORS, Door
from services.edge.apis.openapi import document, page
from tests.edge.conftest import Stage

DESCRIBED = json.loads(document())
OPERATIONS = [(path, method) for path, methods in DESCRIBED["paths"].items() for method in methods]


def test_it_is_openapi_3_1() -> None:
    schemathesis.openapi.from_dict(DESCRIBED).validate()
    for schema in DESCRIBED["components"]["schemas"].values():
        jsonschema_rs.Draft202012Validator({**schema, "components": DESCRIBED["components"]})


def test_its_references_lead_somewhere_and_everything_is_used() -> None:
    text = document().decode()
    for kind, named in DESCRIBED["components"].items():
        for name in named:
            is_used = f'"#/components/{kind}/{name}"' in text or kind == "securitySchemes"
            assert is_used, name
    assert "services." not in text, "modules are nobody's concern"


async def test_every_door_is_in_it(stage: Stage) -> None:
    there = {(path, method) for path, door in stage.edge.doors.at.items() for method in door.taken}
    assert {(path, method.upper()) for path, method in OPERATIONS} == there


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.path)
def test_examples_are_what_it_allows(door: Door) -> None:
    for path in door.paths:
        asked = DESCRIBED["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        whole = {**asked["schema"], "components": DESCRIBED["components"]}
        read = jsonschema_rs.validator_for(whole)
        assert read.is_valid(asked["example"])
        assert not read.is_valid({**asked["example"], "colour": "red"})
        assert not read.is_valid({**asked["example"], "model": None})


@pytest.mark.parametrize("path", DESCRIBED["paths"])
async def test_what_is_not_in_it_is_a_405_that_says_what_is(stage: Stage, path: str) -> None:
    taken = {method.upper() for method in DESCRIBED["paths"][path]}
    for method in {"GET", "PUT", "POST", "DELETE", "PATCH", "TRACE"} - taken:
        refused = await stage.client.request(method, path.replace("{", "").replace("}", ""))
        assert refused.status_code == 405
        assert taken <= set(refused.headers["allow"].split(", ")) <= taken | {"HEAD", "OPTIONS"}


async def test_the_page_names_every_door(stage: Stage) -> None:
    shown = (await stage.client.get("/docs")).text
    assert shown == page().decode()
    for path in stage.edge.doors.at:
        assert path in shown
