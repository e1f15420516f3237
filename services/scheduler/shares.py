"""What each tenant has been served, in weighted tokens: who got least goes next. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with tokens in the place of packets,
as the virtual token counter does for one engine (Sheng et al., OSDI 2024). A tenant that was away
comes back at the present, neither owed for its absence nor in debt for it.
"""

from collections.abc import Mapping


class Shares:
    """A counter a tenant. The present is where whoever was served last stood before that."""

    def __init__(self, weights: Mapping[str, float], limit: int = 4096) -> None:
        self._weights = weights
        self._limit = limit
        self._served: dict[str, float] = {}
        self._present = 0.0

    def __len__(self) -> int:
        return len(self._served)

    def served(self, tenant: str) -> float:
        """Where a tenant stands; the least is next."""
        return max(self._served.get(tenant, 0.0), self._present)

    def charge(self, tenant: str, tokens: int) -> None:
        """A tenant's request is served, for about so many tokens."""
        self._present = self.served(tenant)
        self._served[tenant] = self._present + tokens / self._weight(tenant)
        if len(self._served) > self._limit:
            self._forget()

    def settle(self, tenant: str, tokens: int) -> None:
        """It took so many tokens more than was charged, or less."""
        if tenant in self._served:
            self._served[tenant] += tokens / self._weight(tenant)

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)

    def _forget(self) -> None:
        # Who stands at the present or before it is like a tenant that was never seen.
        ahead = {tenant: at for tenant, at in self._served.items() if at > self._present}
        most = sorted(ahead, key=lambda tenant: ahead[tenant])[-self._limit // 2 :]
        self._served = {tenant: ahead[tenant] for tenant in most}


def read_weights(settings: tuple[str, ...]) -> dict[str, float]:
    """Read `TENANT=WEIGHT` settings. Raises ValueError, in one line, for anything else."""
    weights: dict[str, float] = {}
    for setting in settings:
        tenant, equals, text = setting.rpartition("=")
        try:
            weights[tenant] = float(text)
        except ValueError:
            equals = ""
        if not equals or not 0 < weights[tenant] < float("inf"):
            raise ValueError(f"SCHEDULER_WEIGHTS must be TENANT=WEIGHT,…, got {setting!r}")
    return weights
