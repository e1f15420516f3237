"""What to report to the scheduler, and when. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from headway.scheduler.v1 import scheduler_pb2 as pb
from services.worker.engine import EngineLoad

WORKING_S = 0.25
"""While steps are made, the time between two reports: what they took is news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """How one prefill went, for the scheduler's rates."""

    request_id: str
    computed_tokens: int
    cached_tokens: int
    queue_s: float
    prefill_s: float
    decoding_requests: int


@dataclass(frozen=True, slots=True)
class AdapterLoad:
    """How long one load of an adapter took."""

    adapter: str
    load_s: float


class Reporting:
    """Turns totals into what happened since the last report."""

    def __init__(self, step_budget_tokens: int) -> None:
        self._budget = step_budget_tokens
        self._last = self._before = EngineLoad()
        self._sent_s = float("-inf")
        self._said_draining = False
        self._said_loaded: Sequence[str] = ()

    def is_due(
        self,
        load: EngineLoad,
        is_draining: bool,
        now_s: float,
        heartbeat_s: float,
        loaded_adapters: Sequence[str] = (),
    ) -> bool:
        """Whether the scheduler should hear now: its picture is old, or wrong by much."""
        silent_s = now_s - self._sent_s
        has_worked = load.steps != self._last.steps
        if silent_s >= (min(WORKING_S, heartbeat_s) if has_worked else heartbeat_s):
            return True
        if is_draining != self._said_draining:
            return True
        if loaded_adapters != self._said_loaded:
            return True
        requests = load.running + load.waiting
        known = self._last.running + self._last.waiting
        grown = abs(load.queued_prefill_tokens - self._last.queued_prefill_tokens)
        return abs(requests - known) > known / 4 or grown >= self._budget

    def report(
        self,
        load: EngineLoad,
        prefills: Sequence[Prefill],
        is_draining: bool,
        now_s: float,
        loaded_adapters: Sequence[str] = (),
        adapter_loads: Sequence[AdapterLoad] = (),
    ) -> pb.Report:
        """The report to send; counts as sent."""
        last = self._before = self._last
        self._last, self._sent_s = load, now_s
        self._said_draining, self._said_loaded = is_draining, loaded_adapters
        return pb.Report(
            running_requests=load.running,
            waiting_requests=load.waiting,
            queued_prefill_tokens=load.queued_prefill_tokens,
            kv_usage=load.kv_usage,
            prefills=[_prefill(each) for each in prefills],
            steps=load.steps - last.steps,
            step_time_us=_micros(load.step_time_s - last.step_time_s),
            generated_tokens=load.generated_tokens - last.generated_tokens,
            prefix_queried_tokens=load.prefix_queried_tokens,
            prefix_hit_tokens=load.prefix_hit_tokens,
            draining=is_draining,
            loaded_adapters=loaded_adapters,
            adapter_loads=[
                pb.AdapterLoad(adapter=each.adapter, load_us=_micros(each.load_s))
                for each in adapter_loads
            ],
        )

    def take_back(self) -> None:
        """The last report was not heard: the next one tells its part too, and is due."""
        self._last, self._sent_s = self._before, float("-inf")


def _prefill(prefill: Prefill) -> pb.PrefillTiming:
    return pb.PrefillTiming(
        request_id=prefill.request_id,
        computed_tokens=prefill.computed_tokens,
        cached_tokens=prefill.cached_tokens,
        queue_us=_micros(prefill.queue_s),
        prefill_us=_micros(prefill.prefill_s),
        decoding_requests=prefill.decoding_requests,
    )


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)
