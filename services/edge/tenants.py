"""Who may call, by API key. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.edge.apis.refusals import Unauthorized

ANONYMOUS = ""
Headers = Mapping[bytes, bytes]


class Tenant(Struct, forbid_unknown_fields=True):
    """One entry of the tenants file. A key is the key itself or `sha256:` and its digest.

    `weight` is the tenant's share where several wait; the scheduler is told by the operator
    or by `headway up`.
    """

    name: Annotated[str, Meta(pattern="^[^,]+$")]
    keys: list[str]
    weight: Annotated[float, Meta(gt=0)] = 1.0


class TenantsFile(Struct, forbid_unknown_fields=True):
    """The tenants file."""

    tenants: list[Tenant]


@dataclass(frozen=True, slots=True)
class Tenants:
    """Tenants by the digest of their keys. Without any, everybody is anonymous and welcome."""

    by_digest: Mapping[str, str]
    weights: Mapping[str, float] = field(default_factory=dict)

    def recognise(self, authorization: str) -> str | Unauthorized:
        """The tenant whose key the `Authorization` header bears."""
        if not self.by_digest:
            return ANONYMOUS
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return Unauthorized("Give your API key in the header `Authorization: Bearer KEY`.")
        tenant = self.by_digest.get(sha256(key.strip().encode()).hexdigest())
        return Unauthorized("The API key is not known here.") if tenant is None else tenant


def bearer(asked: Headers) -> str:
    """What a request's headers show, as OpenAI's callers do it."""
    return asked.get(b"authorization", b"").decode("latin-1")


def key_or_bearer(asked: Headers) -> str:
    """What Anthropic's callers show."""
    key = asked.get(b"x-api-key", b"").decode("latin-1")
    return f"Bearer {key}" if key else bearer(asked)


def read_tenants(text: bytes) -> Tenants:
    """Read a tenants file. Raises ValueError, in one line, when it is not one."""
    try:
        entries = msgspec.json.decode(text, type=TenantsFile).tenants
    except msgspec.MsgspecError as error:
        raise ValueError(f"EDGE_TENANTS: {error}") from error
    by_digest: dict[str, str] = {}
    for entry in entries:
        for key in entry.keys:
            if by_digest.setdefault(_digest(key), entry.name) != entry.name:
                raise ValueError(f"EDGE_TENANTS: {entry.name} has a key of another tenant")
    if not by_digest:
        # Without a key to check, everybody would be welcome: not what a file of tenants is for.
        raise ValueError("EDGE_TENANTS: the file holds no key")
    return Tenants(by_digest, {entry.name: entry.weight for entry in entries})


def _digest(key: str) -> str:
    if key.startswith("sha256:"):
        return key.removeprefix("sha256:").lower()
    return sha256(key.encode()).hexdigest()
