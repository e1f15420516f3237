"""What clients may ask of rerank, in Cohere's and Jina's words, and of score, in vLLM's. Pure.

As in openai.py, the structs are the whole list of parameters.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.edge.apis.openai import parse
from services.edge.apis.openai_embeddings import INPUTS_LIMIT, Input, Priority
from services.edge.apis.refusals import Invalid

Text = Annotated[str, Meta(min_length=1)]


class TextDocument(Struct, forbid_unknown_fields=True):
    """A document as an object."""

    text: Text


Documents = Annotated[list[Text | TextDocument], Meta(min_length=1, max_length=INPUTS_LIMIT)]
Texts = Text | Annotated[list[Text], Meta(min_length=1, max_length=INPUTS_LIMIT)]


# The names under which vLLM takes the two sides of a score.
SIDES = (
    ("text_1", "text_2"),
    ("data_1", "data_2"),
    ("queries", "documents"),
    ("queries", "items"),
)


class RerankBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/rerank`."""

    model: str
    query: Text
    documents: Documents
    top_n: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None  # 0 is all, as for vLLM
    return_documents: bool | None = None
    user: str | None = None
    priority: Priority | None = None


class ScoreBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/score`: two sides, under one of the pairs of `SIDES`."""

    model: str
    text_1: Texts | None = None
    text_2: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None
    user: str | None = None
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class RerankAsk:
    """A ranking that was asked for, parsed and checked."""

    body: RerankBody
    texts: list[str]  # of the documents

    @property
    def model(self) -> str:
        """The name of the model, as it was asked for."""
        return self.body.model

    @property
    def inputs(self) -> list[Input]:
        """The query, then the documents."""
        documents = [Input(text, f"documents[{at}]") for at, text in enumerate(self.texts)]
        return [Input(self.body.query, "query"), *documents]

    @property
    def limit(self) -> int:
        """The most results."""
        return self.body.top_n or len(self.texts)


@dataclass(frozen=True, slots=True)
class ScoreAsk:
    """Scores that were asked for, parsed and checked. One text goes with all of the others."""

    body: ScoreBody
    firsts: list[Input]
    seconds: list[Input]

    @property
    def model(self) -> str:
        """The name of the model, as it was asked for."""
        return self.body.model


def parse_rerank(body: bytes) -> RerankAsk | Invalid:
    """Read the body of a ranking."""
    asked = parse(_RERANK, body)
    if isinstance(asked, Invalid):
        return asked
    return RerankAsk(
        asked, [each if isinstance(each, str) else each.text for each in asked.documents]
    )


def parse_score(body: bytes) -> ScoreAsk | Invalid:
    """Read the body of scores."""
    asked = parse(_SCORE, body)
    if isinstance(asked, Invalid):
        return asked
    sides = _sides(asked)
    if isinstance(sides, Invalid):
        return sides
    (first, firsts), (second, seconds) = sides
    if len(firsts) not in (1, len(seconds)):
        message = f"{first} must be one text, or as many as {second}, which are {len(seconds)}"
        return Invalid(message, first)
    return ScoreAsk(asked, firsts, seconds)


Side = tuple[str, list[Input]]


def _sides(asked: ScoreBody) -> tuple[Side, Side] | Invalid:
    """The two lists by the names under which they came."""
    named = {
        name: _inputs(name, value)
        for name in dict.fromkeys(chain(*SIDES))
        if (value := getattr(asked, name)) is not None
    }
    for first, second in SIDES:
        if set(named) == {first, second}:
            return (first, named[first]), (second, named[second])
    return Invalid("Give text_1 and text_2, or queries and documents", "text_1")


def _inputs(name: str, value: str | list[str]) -> list[Input]:
    if isinstance(value, str):
        return [Input(value, name)]
    return [Input(text, f"{name}[{at}]") for at, text in enumerate(value)]


_RERANK = msgspec.json.Decoder(RerankBody)
_SCORE = msgspec.json.Decoder(ScoreBody)
