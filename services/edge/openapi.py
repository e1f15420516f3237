"""The doors as an OpenAPI document and as a page to read, from their own declarations. Pure."""

import html
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from services.edge.declarations import DOORS, Door

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ANTHROPICS_ERROR = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}
_REFUSALS = {
    "400": "A parameter is at fault; `param` names it.",
    "401": "The API key is missing or unknown.",
    "404": "Nobody serves the model; the message names those that are served.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "429": "The fleet is full; `Retry-After` says when to come again.",
    "502": "A stream was lost and could not be resumed exactly.",
    "503": "A part of the system is not there; `Retry-After` says when to come again.",
}
READING: Mapping[str, str] = {
    "/v1/models": "The models and adapters that are served.",
    "/healthz": "200 while the process lives.",
    "/readyz": "200 once every configured pool has a ready worker, else 503 with the reason.",
    "/health": "As `/readyz`.",
    "/ping": "As `/readyz`.",
    "/metrics": "Metrics, as Prometheus reads them.",
    "/openapi.json": "This document.",
    "/docs": "This document as a page.",
}


@cache
def document() -> bytes:
    """OpenAPI 3.1, as JSON."""
    bodies, components = msgspec.json.schema_components(
        [door.body for door in DOORS], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {path: {"get": _reading(says)} for path, says in READING.items()}
    for door, body in zip(DOORS, bodies, strict=True):
        paths[door.path] = {"post": _posting(door, body)}
    described = {
        "openapi": "3.1.0",
        "info": {"title": "Headway", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {
                **components,
                "Error": _ERROR,
                "AnthropicsError": _ANTHROPICS_ERROR,
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }
    return msgspec.json.encode(described)


def _reading(says: str) -> dict[str, Any]:
    answers = {"200": {"description": "OK"}, "503": {"description": "Not ready."}}
    return {"summary": says, "responses": answers}


def _posting(door: Door, body: Mapping[str, Any]) -> dict[str, Any]:
    shape = "AnthropicsError" if door.is_anthropics else "Error"
    error = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    answers: dict[str, Any] = {
        status: {"description": says, "content": error} for status, says in _REFUSALS.items()
    }
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if "stream" in door.body.__struct_fields__:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    answers["200"] = {"description": "The answer.", "content": content}
    asked = {"application/json": {"schema": dict(body), "example": dict(door.least)}}
    return {"requestBody": {"required": True, "content": asked}, "responses": answers}


@cache
def page() -> bytes:
    """The doors and their parameters as HTML."""
    described = msgspec.json.decode(document())
    components = described["components"]["schemas"]
    sections = [f"<h2>GET {path}</h2><p>{html.escape(says)}</p>" for path, says in READING.items()]
    for door in DOORS:
        rows = "".join(
            f"<tr><td>{name}</td><td>{html.escape(_brief(schema))}</td></tr>"
            for name, schema in components[door.body.__name__]["properties"].items()
        )
        sections.append(f"<h2>POST {door.path}</h2><table>{rows}</table>")
    return f"<!doctype html><title>Headway</title>{''.join(sections)}".encode()


def _brief(schema: Mapping[str, Any]) -> str:
    return msgspec.json.encode({k: v for k, v in schema.items() if k != "default"}).decode()
