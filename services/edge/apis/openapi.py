"""The doors as an OpenAPI document and as a page to read, from their own declarations. Pure."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from services.edge.apis import answers
from services.edge.apis.declarations import DOORS, Door
from services.edge.apis.response_items import Page

_ABOUT = (
    "`HEAD` enters where `GET` does. `OPTIONS` is 204 with `Allow`; any other method is 405 with "
    "`Allow`, and any other path 404. What is no HTTP is a 400 with an `Error`."
)

# A string to some who read it, an object for each event to others: so it has no type.
_EVENTS = "Server-sent events; the `data` of each is JSON, but for OpenAI's last, `[DONE]`."
_REFUSALS = {
    400: "A parameter is at fault; the error names it.",
    401: "The API key is missing or unknown.",
    404: "It is not here; where a model was asked for, the message names those that are.",
    408: "The body did not come in time; the connection closes.",
    413: "The body is too large.",
    415: "The body is not declared as JSON, or is packed.",
    429: "The fleet is full.",
    529: "The fleet is full, in Anthropic's words.",
    431: "The headers are too large; the connection closes.",
    500: "The server is at fault; the connection closes.",
    502: "A stream was lost and could not be resumed exactly.",
    503: "A part of the system is not there.",
}
_OF_ALL = (400, 431, 500)
_OF_BODIES = (*_OF_ALL, 401, 404, 408, 413, 415, 503)
_OF_PLACING = (*_OF_BODIES, 429, 502)
_OF_ANTHROPICS_PLACING = (*_OF_BODIES, 502, 529)
# Heads are read before anybody knows for which door they are: a 431 is OpenAI's.
_STATUSES: Mapping[type[msgspec.Struct], Sequence[int]] = {
    answers.Error: _OF_PLACING,
    answers.AnthropicsError: [each for each in _OF_ANTHROPICS_PLACING if each != 431],
}
_LATER = (429, 503, 529)
_HEADERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "X-Request-Id": ("The caller's own, or ours.", {"type": "string"}),
    "Retry-After": ("Seconds after which to come again.", {"type": "integer", "minimum": 0}),
}


@dataclass(frozen=True, slots=True)
class Glance:
    """A door without a body."""

    method: str
    path: str
    says: str
    answer: type[msgspec.Struct] | str | None  # a media type is text; None: it only refuses
    refusals: Sequence[int] = ()
    needs_key: bool = False  # where anybody does
    query: type[msgspec.Struct] | None = None


_KEPT = "/v1/responses/{response_id}"
GLANCES = (
    Glance("GET", "/v1/models", "What is served.", answers.Models, (401,), True),
    Glance("GET", "/v1/models/{model}", "One model.", answers.Model, (401, 404), True),
    Glance("GET", _KEPT, "A kept response.", answers.Response, (401, 404), True),
    Glance("DELETE", _KEPT, "Forget it.", answers.DeletedResponse, (401, 404), True),
    Glance("POST", f"{_KEPT}/cancel", "Never: it is over.", None, (401, 404), True),
    Glance(
        "GET",
        f"{_KEPT}/input_items",
        "What it answered, a page at a time.",
        answers.InputItems,
        (401, 404),
        True,
        Page,
    ),
    Glance("GET", "/health", "The same as /readyz, where vLLM has it.", answers.State, (503,)),
    Glance("GET", "/healthz", "200 while the process lives.", answers.State),
    Glance("GET", "/ping", "As /readyz, for SageMaker.", answers.State, (503,)),
    Glance("GET", "/readyz", "200 once all pools have a ready worker.", answers.State, (503,)),
    Glance("GET", "/metrics", "Metrics, as Prometheus reads them.", "text/plain"),
    Glance("GET", "/version", "What runs here.", answers.Version),
    Glance("GET", "/openapi.json", "This document.", "application/json"),
    Glance("GET", "/docs", "This document as a page.", "text/html"),
)


@cache
def document() -> bytes:
    """OpenAPI 3.1, as JSON."""
    types = [answers.Error, answers.AnthropicsError]
    types += [each.answer for each in GLANCES if isinstance(each.answer, type)]
    types += [kind for door in DOORS for kind in (door.body, door.answer)]
    described, components = msgspec.json.schema_components(
        dict.fromkeys(types), ref_template="#/components/schemas/{name}"
    )
    schemas = dict(zip(dict.fromkeys(types), described, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for glance in GLANCES:
        paths.setdefault(glance.path, {})[glance.method.lower()] = _glance(glance, schemas)
    for door in DOORS:
        for path in door.paths:
            paths[path] = {"post": _posting(path, door, schemas)}
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "Headway", "version": "1", "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {name: _header(*about) for name, about in _HEADERS.items()},
            "responses": {
                _refusal_name(status, kind): _refusal(status, schemas[kind])
                for kind, statuses in _STATUSES.items()
                for status in statuses
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }
    # Two types of one name are told apart by their modules, which are nobody's concern outside.
    return re.sub(rb"services\.edge\.apis\.(\w)(\w*)\.", _of_module, msgspec.json.encode(whole))


def _of_module(found: re.Match[bytes]) -> bytes:
    return found[1].upper() + found[2]


def _glance(glance: Glance, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation(glance.method, glance.path),
        "summary": glance.says,
        "responses": _refusals((*_OF_ALL, *glance.refusals), answers.Error),
    }
    if isinstance(glance.answer, str):
        kind = "object" if glance.answer == "application/json" else "string"
        described["responses"]["200"] = _answer({glance.answer: {"schema": {"type": kind}}})
    elif glance.answer is not None:
        content = {"application/json": {"schema": schemas[glance.answer]}}
        described["responses"]["200"] = _answer(content)
    parameters = [_named(name) for name in re.findall(r"{(\w+)}", glance.path)]
    if glance.query is not None:
        _, parts = msgspec.json.schema_components([glance.query])
        asked = parts[glance.query.__name__]["properties"]
        parameters += [{"name": name, "in": "query", "schema": asked[name]} for name in asked]
    if parameters:
        described["parameters"] = parameters
    if not glance.needs_key:
        described["security"] = []
    return described


def _named(name: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _posting(path: str, door: Door, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": schemas[door.answer]}}
    if "stream" in door.body.__struct_fields__:
        content["text/event-stream"] = {"schema": {"description": _EVENTS}}
    kind = answers.AnthropicsError if door.is_anthropics else answers.Error
    placing = _OF_ANTHROPICS_PLACING if door.is_anthropics else _OF_PLACING
    refusals = _refusals(placing if door.is_placed else _OF_BODIES, kind)
    asked = {"schema": schemas[door.body], "example": dict(door.least)}
    return {
        "operationId": _operation("POST", path),
        "requestBody": {"required": True, "content": {"application/json": asked}},
        "responses": {**refusals, "200": _answer(content)},
    }


def _operation(method: str, path: str) -> str:
    return "_".join((method.lower(), *re.findall(r"\w+", path)))


def _answer(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": "The answer.", "headers": _headers("X-Request-Id"), "content": content}


def _refusals(statuses: Sequence[int], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """References to the refusals."""
    kinds = {
        status: kind if status in _STATUSES[kind] else answers.Error for status in sorted(statuses)
    }
    return {
        str(status): {"$ref": f"#/components/responses/{_refusal_name(status, of)}"}
        for status, of in kinds.items()
    }


def _refusal_name(status: int, kind: type) -> str:
    return f"{kind.__name__}{status}"


def _refusal(status: int, schema: Mapping[str, Any]) -> dict[str, Any]:
    later = ("Retry-After",) if status in _LATER else ()
    return {
        "description": _REFUSALS[status],
        "headers": _headers("X-Request-Id", *later),
        "content": {"application/json": {"schema": schema}},
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(says: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": says, "required": True, "schema": schema}


@cache
def page() -> bytes:
    """The doors and their parameters as HTML."""
    described = msgspec.json.decode(document())
    components = described["components"]["schemas"]
    sections = [
        f"<h2>{each.method} {each.path}</h2><p>{html.escape(each.says)}</p>" for each in GLANCES
    ]
    for door in DOORS:
        rows = "".join(
            f"<tr><td>{name}</td><td>{html.escape(_brief(schema))}</td></tr>"
            for name, schema in components[door.body.__name__]["properties"].items()
        )
        sections.append(f"<h2>POST {' or '.join(door.paths)}</h2><table>{rows}</table>")
    return f"<!doctype html><title>Headway</title>{''.join(sections)}".encode()


def _brief(schema: Mapping[str, Any]) -> str:
    return msgspec.json.encode({k: v for k, v in schema.items() if k != "default"}).decode()
