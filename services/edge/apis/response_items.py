"""The items of kept responses: as a list tells them, a page at a time, and by their ids. Pure.

An item's id names the response that it came with, so whoever refers to one says where it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from services.edge.apis.openai import read_part
from services.edge.apis.refusals import Invalid
from services.edge.apis.responses import CallItem, InputText, Item, OutputItem, OutputText, SaidItem

_PREFIXES = {SaidItem: "msg", CallItem: "fc", OutputItem: "fco"}


class Page(Struct, forbid_unknown_fields=True):
    """The query of `GET /v1/responses/ID/input_items`."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


@dataclass(frozen=True, slots=True)
class Listed:
    """An item as JSON, and its id."""

    item_id: str
    json: bytes


def asked_items(response_id: str, items: Sequence[Item]) -> tuple[Listed, ...]:
    """What a request gave, each item with an id and everything that OpenAI fills in."""
    request_id = response_id.removeprefix("resp_")
    return tuple(
        listed({**_told(item), "id": item.id or f"{_prefix(item)}_{request_id}_i{place}"})
        for place, item in enumerate(items)
    )


def listed(item: Mapping[str, Any]) -> Listed:
    """An item that has its id."""
    return Listed(item["id"], msgspec.json.encode(item))


def response_of(item_id: str) -> str:
    """The id of the response that an item came with, if it came with one."""
    _, _, rest = item_id.partition("_")
    return "resp_" + rest.partition("_")[0]


def read_page(query: str) -> Page | Invalid:
    """Read the query."""
    given: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    limit = given.get("limit", "")
    if limit.isdecimal():
        given["limit"] = int(limit[:9])
    return read_part(given, Page, "")


def page(items: Sequence[Listed], asked: Page) -> bytes | Invalid:
    """A page of a list, the last first unless it is asked for otherwise."""
    ordered = list(items) if asked.order == "asc" else list(reversed(items))
    if asked.after is not None:
        ids = [each.item_id for each in ordered]
        if asked.after not in ids:
            return Invalid(f"No item of this response has the id '{asked.after}'", "after")
        ordered = ordered[ids.index(asked.after) + 1 :]
    shown = ordered[: asked.limit]
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [msgspec.Raw(each.json) for each in shown],
            "first_id": shown[0].item_id if shown else None,
            "last_id": shown[-1].item_id if shown else None,
            "has_more": len(ordered) > len(shown),
        }
    )


def _prefix(item: Item) -> str:
    return _PREFIXES.get(type(item), "rs")


def _told(item: Item) -> dict[str, Any]:
    told: dict[str, Any] = {**msgspec.to_builtins(item), "status": item.status or "completed"}
    if isinstance(item, SaidItem):
        told["content"] = list(_parts(item))
    return told


def _parts(item: SaidItem) -> Iterator[dict[str, Any]]:
    """An assistant's message is one of a model's; all others are somebody's."""
    kind = OutputText if item.role == "assistant" else InputText
    content = [kind(item.content)] if isinstance(item.content, str) else item.content
    for part in content:
        if item.role == "assistant":
            yield {"type": "output_text", "text": part.text, "annotations": [], "logprobs": []}
        else:
            yield {"type": "input_text", "text": part.text}
