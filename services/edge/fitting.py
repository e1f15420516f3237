"""Whether a model is one for the door at which it was asked. Pure."""

from collections.abc import Mapping

from services.edge.apis.refusals import Refusal, UnknownModel, WrongKind
from services.edge.workers import Pool


def misfit(name: str, pools: Mapping[str, Pool], *, generates: bool) -> Refusal | None:
    """Why a model of this name does not do here; None when it does, or nobody can tell yet."""
    if not pools:
        return None  # an edge that has not heard of any worker; the scheduler knows better
    pool = pools.get(name)
    if pool is None:
        return UnknownModel(name, names(pools, generates=generates))
    if pool.generates is not generates:
        return WrongKind(name, pool.generates, names(pools, generates=generates))
    return None


def named(refusal: Refusal, pools: Mapping[str, Pool], *, generates: bool) -> Refusal:
    """The refusal with the models that there are: the other services know only of its own."""
    if not isinstance(refusal, UnknownModel) or refusal.known:
        return refusal
    return UnknownModel(refusal.model, names(pools, generates=generates))


def names(pools: Mapping[str, Pool], *, generates: bool) -> tuple[str, ...]:
    """The models of one kind."""
    return tuple(sorted(name for name, pool in pools.items() if pool.generates is generates))
