"""vLLM's load, from the statistics that it reports after each step."""

import asyncio
import time
from dataclasses import replace
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.stats import IterationStats, SchedulerStats

from services.worker.engine import EngineLoad


class LoadLogger(StatLoggerBase):
    """Keeps the last state and the totals. vLLM calls it on the event loop, step by step."""

    def __init__(self) -> None:
        self.load = EngineLoad()
        self._last_s = 0.0
        self._handed_s: dict[str, float] = {}  # of the runs that no reported step answered
        self._answered: list[str] = []  # the runs that the next report's step answered
        self._decoding: set[str] = set()  # the runs that an earlier step answered
        self._stepped = asyncio.Event()

    def __call__(self, vllm_config: Any, engine_index: int = 0) -> "LoadLogger":
        """vLLM asks for a factory, and for one logger of one engine."""
        return self

    @property
    def is_busy(self) -> bool:
        """Whether another step is to come."""
        return self.load.running + self.load.waiting > 0

    @property
    def decoding(self) -> int:
        """Runs that had their first output before this step."""
        return len(self._decoding)

    def handed(self, run_id: str) -> None:
        """Note that a run goes to vLLM now: if that is idle, its step begins."""
        self._handed_s[run_id] = time.monotonic()

    def answered(self, run_id: str) -> None:
        """Note that a run has its first output; vLLM reports the step after its outputs."""
        self._answered.append(run_id)

    def left(self, run_id: str) -> None:
        """Note that a run has ended, with outputs or without."""
        self._handed_s.pop(run_id, None)
        self._decoding.discard(run_id)

    def forget_work(self) -> None:
        """Count from now on: what was done before was no request's."""
        self.load = EngineLoad(running=self.load.running, waiting=self.load.waiting)

    async def next_step(self) -> None:
        """Return after the next step's statistics."""
        self._stepped.clear()
        await self._stepped.wait()

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        """Note a step."""
        if iteration_stats is not None:
            total = self.load.generated_tokens + iteration_stats.num_generation_tokens
            self.load = replace(self.load, generated_tokens=total)
        if scheduler_stats is not None:
            self._note_state(scheduler_stats, time.monotonic())
            self._note_answered()
            self._stepped.set()

    def log_engine_initialized(self) -> None:
        """Nothing to log: the worker says itself when it is ready."""

    def _note_state(self, stats: SchedulerStats, now_s: float) -> None:
        begin_s = self._step_began_s()
        prefix = stats.prefix_cache_stats
        load = self.load
        self.load = replace(
            load,
            running=stats.num_running_reqs,
            waiting=stats.num_waiting_reqs + stats.num_skipped_waiting_reqs,
            kv_usage=stats.kv_cache_usage,
            steps=load.steps + (begin_s is not None),
            step_time_s=load.step_time_s + (0.0 if begin_s is None else now_s - begin_s),
            prefix_queried_tokens=load.prefix_queried_tokens + prefix.queries,
            prefix_hit_tokens=load.prefix_hit_tokens + prefix.hits,
        )
        self._last_s = now_s

    def _note_answered(self) -> None:
        for run_id in self._answered:
            if self._handed_s.pop(run_id, None) is not None:  # else it has left
                self._decoding.add(run_id)
        self._answered.clear()

    def _step_began_s(self) -> float | None:
        # vLLM does not time its steps. Between two reports of a busy engine lies one step; after
        # an idle time a step begins with the first run that is handed over. It has to count: its
        # prefill is reported too. Without a run there was no step, but an abort's report.
        if self.is_busy:
            return self._last_s
        if not self._handed_s:
            return None
        return max(self._last_s, min(self._handed_s.values()))
