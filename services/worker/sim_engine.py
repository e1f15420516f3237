"""The simulated engine in real time: one task steps the core and hands its tokens out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from services.worker.delivery import Delivery
from services.worker.engine import (
    BlocksRemoved,
    BlocksStored,
    End,
    EndReason,
    EngineBroken,
    EngineFacts,
    EngineLoad,
    EngineRefused,
    FirstToken,
    KvEvent,
    Output,
    Push,
    Run,
    Sampling,
)
from services.worker.sim_core import Emitted, Removed, SimCore, SimRun, SimSettings, Stored
from services.worker.sim_words import WordTokens, embedding


class _Open:
    """A run that somebody waits for."""

    __slots__ = ("_push", "decoding", "delivery", "run", "scheduled_s")

    def __init__(self, run: Run, push: Push) -> None:
        self.run = run
        self.delivery = Delivery(self._take)
        self.scheduled_s = 0.0
        self.decoding = 0
        self._push = push

    def _take(self, output: Output) -> bool:
        return self._push(output) and output.end is None


class SimEngine:
    """Implements the engine port without a model. Its text depends on all tokens so far."""

    def __init__(
        self,
        settings: SimSettings,
        words: Sequence[int],
        vocabulary_size: int,
        max_model_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._words = words
        self._facts = EngineFacts(
            engine="sim",
            block_size=settings.block_size,
            capacity_blocks=settings.capacity_blocks,
            max_running=settings.max_running,
            step_budget_tokens=settings.budget,
            max_model_tokens=max_model_tokens,
            vocabulary_size=vocabulary_size,
            adapter_slots=settings.max_loras,
        )
        self._clock = clock
        self._core = SimCore(settings)
        self._open: dict[str, _Open] = {}
        self._work = asyncio.Event()
        self._events: list[KvEvent] = []
        self._changed = asyncio.Event()
        self._stepping: asyncio.Task[None] | None = None

    async def start(self) -> EngineFacts:
        """Begin to step."""
        self._stepping = asyncio.create_task(self._steps())
        return self._facts

    async def stop(self) -> None:
        """End all runs and the stepping."""
        await self.abort(list(self._open))
        if self._stepping is not None:
            self._stepping.cancel()
            await asyncio.wait({self._stepping})

    async def generate(self, run: Run, push: Push) -> None:
        """Generate one choice; its outputs are pushed as its steps end."""
        _refuse_what_needs_a_model(run.sampling)
        opened = self._submit(run, push)
        try:
            await opened.delivery.over
        finally:
            self._core.abort(run.run_id)
            del self._open[run.run_id]

    async def abort(self, run_ids: Sequence[str]) -> None:
        """End runs with ABORTED; the core forgets them at once."""
        for run_id in run_ids:
            self._core.abort(run_id)
            if run_id in self._open:
                self._open[run_id].delivery.put(Output([], end=End(EndReason.ABORTED)))

    async def embed(self, run_id: str, tokens: Sequence[int]) -> Sequence[float]:
        """A unit vector that depends on all tokens, after the time that a prefill takes."""
        run = Run(
            run_id=run_id,
            tokens=tokens,
            generated=0,
            choice=0,
            max_tokens=1,
            min_tokens=0,
            sampling=Sampling(temperature=0.0),
        )
        await self.generate(run, lambda _: True)
        return embedding(tokens)

    async def load_adapter(self, name: str) -> None:
        """Take the time that a load takes."""
        await asyncio.sleep(self._settings.adapter_load_ms / 1e3)

    async def unload_adapter(self, name: str) -> None:
        """There is nothing to free."""

    async def kv_events(self) -> AsyncIterator[Sequence[KvEvent]]:
        """What changes in the cache, a batch for each step that changes it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            events, self._events = self._events, []
            yield events

    def load(self) -> EngineLoad:
        """The load now."""
        return self._core.load

    async def died(self) -> str:
        """Return when the stepping has ended; by itself it never does."""
        if self._stepping is None:
            raise EngineBroken("the simulated engine was not started")
        await asyncio.wait({self._stepping})
        return "the simulated engine ended"

    def _submit(self, run: Run, push: Push) -> _Open:
        tokens = WordTokens(
            run.tokens,
            self._settings.block_size,
            self._words,
            _variant(run),
            run.cache_salt,
            run.adapter,
        )
        opened = self._open[run.run_id] = _Open(run, push)
        self._core.submit(SimRun(run.run_id, tokens, run.max_tokens, run.priority))
        self._work.set()
        return opened

    async def _steps(self) -> None:
        next_s = self._clock()
        while True:
            if self._core.is_idle:
                self._work.clear()
                await self._work.wait()
                next_s = self._clock()
            step = self._core.begin()
            now_s = self._clock()
            for sim_run in step.admitted:
                self._note_scheduled(sim_run, now_s, step.decoding)
            # Absolute times: what a sleep overshoots, the next one makes up for.
            next_s = max(next_s + step.duration_s, now_s)
            await asyncio.sleep(next_s - now_s)
            self._hand_out(self._core.finish())
            self._tell_changes()

    def _note_scheduled(self, sim_run: SimRun, now_s: float, decoding: int) -> None:
        opened = self._open[sim_run.run_id]
        opened.scheduled_s = now_s
        opened.decoding = decoding

    def _hand_out(self, emitted: Sequence[Emitted]) -> None:
        now_s = self._clock()
        for each in emitted:
            opened = self._open[each.run.run_id]
            first = _first_token(opened, each.run, now_s) if each.run.made == 1 else None
            opened.delivery.put(Output([each.token], first, _end(opened.run, each)))
            if opened.delivery.is_over:  # its task wakes too late for the next step
                self._core.abort(each.run.run_id)

    def _tell_changes(self) -> None:
        self._events += [_event(each, self._settings) for each in self._core.take_changes()]
        if self._events:
            self._changed.set()


def _variant(run: Run) -> bytes:
    chance = "" if run.sampling.is_greedy else f"{run.choice}/{run.sampling.seed}"
    return (f"{run.adapter}:{chance}" if run.adapter else chance).encode()


def _first_token(opened: _Open, sim_run: SimRun, now_s: float) -> FirstToken:
    return FirstToken(
        cached_tokens=sim_run.cached_tokens,
        scheduled_s=opened.scheduled_s,
        first_token_s=now_s,
        decoding_requests=opened.decoding,
    )


def _end(run: Run, emitted: Emitted) -> End | None:
    stops = emitted.token in run.sampling.stop_token_ids and emitted.run.made > run.min_tokens
    if stops:
        return End(EndReason.STOPPED, emitted.token)
    return End(EndReason.LENGTH) if emitted.is_last else None


def _event(change: Stored | Removed, settings: SimSettings) -> KvEvent:
    if isinstance(change, Removed):
        return BlocksRemoved(change.hashes)
    tokens = change.run.tokens
    assert isinstance(tokens, WordTokens)  # this engine submits no others
    return BlocksStored(
        hashes=tokens.block_hashes(change.last)[change.first : change.last],
        parent=tokens.block_parent(change.first) if change.first else None,
        token_ids=tokens.block_tokens(change.first, change.last),
        block_size=settings.block_size,
        adapter=tokens.adapter,
        cache_salt="" if change.first else tokens.cache_salt,
    )


def _refuse_what_needs_a_model(sampling: Sampling) -> None:
    asked = {
        "logprobs": sampling.logprobs is not None,
        "prompt_logprobs": sampling.prompt_logprobs is not None,
        "presence_penalty": sampling.presence_penalty != 0.0,
        "frequency_penalty": sampling.frequency_penalty != 0.0,
        "repetition_penalty": sampling.repetition_penalty != 1.0,
        "logit_bias": bool(sampling.logit_bias),
        "constraint": sampling.constraint is not None,
    }
    for parameter, is_asked in asked.items():
        if is_asked:
            raise EngineRefused(f"the simulated engine cannot honour {parameter}", parameter)
