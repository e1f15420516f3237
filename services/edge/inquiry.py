"""A request that is answered whole and generates nothing, whichever door it came through. Pure."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from services.edge.apis import refusals
from services.edge.apis.refusals import Answer, Invalid, Refusal
from services.edge.tenants import Headers, bearer


class Named(Protocol):
    """What is asked names its model."""

    @property
    def model(self) -> str:
        """The name, as it was asked for."""


Asked = TypeVar("Asked", bound=Named)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and under which names the other services hear of it."""

    request_id: str
    tenant: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer's JSON, and the tokens that were read for it."""

    body: bytes
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Inquiry(Generic[Asked]):
    """One kind of request: its name in metrics, how it is read, and what answers it."""

    endpoint: str
    parse: Callable[[bytes], Asked | Invalid]
    answer: Callable[[Asked, Caller], Awaitable[Reply | Refusal]]
    authorization: Callable[[Headers], str] = bearer
    refused: Callable[[Refusal], Answer] = refusals.answer
    generates: bool = False  # whether it is for models that do
