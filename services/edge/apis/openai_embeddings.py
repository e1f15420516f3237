"""What clients may ask of embeddings, in OpenAI's words. Pure.

As in openai.py, the structs are the whole list of parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from services.edge.apis.openai import PROMPTS, Positive, Prompt, is_prompt, one_or_many, parse
from services.edge.apis.refusals import Invalid

INPUTS_LIMIT = 2048  # OpenAI's
TOTAL_TOKENS_LIMIT = 300_000  # OpenAI's, over all inputs of a request

Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class EmbeddingBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/embeddings`. `user` is read and goes nowhere, logs included."""

    model: str
    input: str | Annotated[list[Any], Meta(extra_json_schema=PROMPTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Positive | None = None
    user: str | None = None
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """One text or list of token ids to embed, and where it stands in the body."""

    prompt: Prompt
    where: str  # such as `input[3]`

    @property
    def parameter(self) -> str:
        """The parameter that it came by."""
        return self.where.partition("[")[0]


@dataclass(frozen=True, slots=True)
class EmbeddingAsk:
    """An embedding that was asked for, parsed and checked."""

    body: EmbeddingBody
    inputs: list[Input]

    @property
    def model(self) -> str:
        """The name of the model, as it was asked for."""
        return self.body.model


def parse_embedding(body: bytes) -> EmbeddingAsk | Invalid:
    """Read the body of an embedding."""
    asked = parse(_EMBEDDING, body)
    if isinstance(asked, Invalid):
        return asked
    found = inputs(asked)
    return found if isinstance(found, Invalid) else EmbeddingAsk(asked, found)


def inputs(asked: EmbeddingBody) -> list[Input] | Invalid:
    """The inputs: one text, one list of token ids, or a list of either."""
    given = one_or_many(asked.input)
    if given is asked.input:
        found = [Input(each, f"input[{position}]") for position, each in enumerate(given)]
    else:
        found = [Input(given[0], "input")]
    if not 1 <= len(found) <= INPUTS_LIMIT:
        return Invalid(f"Expected 1 to {INPUTS_LIMIT} inputs, got {len(found)}", "input")
    faults = (_fault(each) for each in found)
    return next((fault for fault in faults if fault is not None), found)


def wrong_dimensions(
    asked: EmbeddingBody, shortened: Mapping[str, frozenset[int]]
) -> Invalid | None:
    """Why the vector cannot have so many dimensions; `shortened` has the models that can."""
    wanted = asked.dimensions
    if wanted is None:
        return None
    known = shortened.get(asked.model)
    if known is None:
        message = (
            f"The model `{asked.model}` was not trained for shorter vectors: leave dimensions out"
        )
        return Invalid(message, "dimensions")
    if wanted not in known:
        sizes = ", ".join(map(str, sorted(known)))
        return Invalid(f"This model's vectors may have {sizes} dimensions", "dimensions")
    return None


def _fault(found: Input) -> Invalid | None:
    if not is_prompt(found.prompt):
        return Invalid(f"Expected a text or a list of token ids in `{found.where}`", "input")
    if not found.prompt:
        return Invalid(f"`{found.where}` must not be empty", "input")
    return None


_EMBEDDING = msgspec.json.Decoder(EmbeddingBody)
