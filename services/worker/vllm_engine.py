"""vLLM's AsyncLLM behind the engine port. Importing this module imports vLLM: some seconds."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
import vllm
from vllm import PoolingParams
from vllm.exceptions import GracefulHTTPError, VLLMClientError
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from services.worker.engine import (
    AdapterRefused,
    EngineBroken,
    EngineFacts,
    EngineFull,
    EngineLoad,
    EngineRefused,
    KvEvent,
    Push,
    Run,
    Sampling,
)
from services.worker.vllm_events import Subscription
from services.worker.vllm_load import LoadLogger
from services.worker.vllm_process import EngineProcess, EngineSettings
from services.worker.vllm_run import VllmRun
from services.worker.vllm_sampling import refusal, sampling_params
from services.worker.vllm_tap import tap

log = structlog.get_logger(service="worker")

LONGEST_STEP_S = 5.0  # nobody waits longer for the engine to confirm an abort


class VllmEngine:
    """Generates or embeds with vLLM."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._load = LoadLogger()
        self._process = EngineProcess(settings, self._load)
        self._engine: AsyncLLM | None = None
        self._subscription: Subscription | None = None
        self._runs: set[str] = set()
        self._loras = {
            name: LoRARequest(name, number, str(Path(path).resolve()))
            for number, (name, path) in enumerate(settings.adapters.items(), start=1)
        }

    async def start(self) -> EngineFacts:
        """Load the model, and run what vLLM compiles at its first use."""
        try:
            self._engine = await self._process.start()
        # vLLM explains itself in its own log, above; what it raises is one of these.
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise EngineBroken(f"vLLM cannot start: {reason}") from error
        if self._settings.is_embedding:
            await self.embed("warm-up", [1])
        else:
            self._subscription = Subscription(*self._process.event_endpoints)
            await self._warm_up()
        self._load.forget_work()
        return self._facts(self._engine)

    async def stop(self) -> None:
        """End all runs first: vLLM leaves their readers waiting for ever."""
        engine, self._engine = self._engine, None
        if engine is not None and not engine.errored:
            await engine.abort(list(self._runs))
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        await self._process.stop(engine)

    async def generate(self, run: Run, push: Push) -> None:
        """Generate one choice; its outputs are pushed from within vLLM's own output task."""
        with self._noted(run.run_id), _renamed_errors():
            engine = self._running()
            outputs = VllmRun(run, push, self._load)
            try:
                collector = await engine.add_request(
                    run.run_id,
                    tokens_input(list(run.tokens), cache_salt=run.cache_salt or None),
                    sampling_params(run),
                    lora_request=self._loras[run.adapter] if run.adapter else None,
                    priority=run.priority,
                    **_reasoning(run.sampling),
                )
                tap(collector, outputs.put)
                await outputs.over
            finally:
                await engine.abort(run.run_id)  # which passes over a run that has ended

    async def abort(self, run_ids: Sequence[str]) -> None:
        """End runs, and wait for the step after which vLLM computes for them no more."""
        engine = self._engine
        if engine is None or engine.errored:
            return  # nothing runs on a dead engine
        await engine.abort(list(run_ids))
        if self._load.is_busy:
            try:
                await asyncio.wait_for(self._load.next_step(), LONGEST_STEP_S)
            except TimeoutError:
                return  # the engine hangs; what watches its steps says so

    async def embed(self, run_id: str, tokens: Sequence[int]) -> Sequence[float]:
        """Embed one input."""
        with self._noted(run_id), _renamed_errors():
            outputs = self._running().encode(
                tokens_input(list(tokens)), PoolingParams(task="embed"), run_id
            )
            async with aclosing(outputs):
                async for output in outputs:
                    values: list[float] = output.outputs.data.tolist()
                    return values
        raise EngineBroken("vLLM ended the run without an embedding")

    async def load_adapter(self, name: str) -> None:
        """Load one between two steps."""
        try:
            await self._running().add_lora(self._loras[name])
        except EngineDeadError as error:
            raise EngineBroken("the vLLM engine process died") from error
        # vLLM sends what went wrong in its process as a bare Exception; its own log has the cause.
        except Exception as error:
            raise AdapterRefused(f"adapter {name!r} cannot be loaded") from error

    async def unload_adapter(self, name: str) -> None:
        """Free one's slot and memory."""
        try:
            await self._running().remove_lora(self._loras[name].lora_int_id)
        except EngineDeadError as error:
            raise EngineBroken("the vLLM engine process died") from error
        except Exception as error:  # bare, as in `load_adapter`
            raise EngineBroken(f"adapter {name!r} cannot be unloaded") from error

    async def kv_events(self) -> AsyncIterator[Sequence[KvEvent]]:
        """vLLM's KV events; an engine that embeds has none."""
        if self._subscription is None:
            await asyncio.Event().wait()
            return
        async for batch in self._subscription.batches():
            yield batch

    def load(self) -> EngineLoad:
        """The load after the last step."""
        if self._engine is None:
            return self._load.load
        return replace(self._load.load, queued_prefill_tokens=self._engine.get_num_queued_tokens())

    async def died(self) -> str:
        """Return when vLLM's own output task ends: it does when the engine's process dies."""
        task = self._running().output_handler
        assert task is not None  # the warm-up has started it
        await asyncio.wait({task})
        return "the vLLM engine process died"

    def _running(self) -> AsyncLLM:
        if self._engine is None:
            raise EngineBroken("the engine is not running")
        return self._engine

    @contextmanager
    def _noted(self, run_id: str) -> Iterator[None]:
        self._runs.add(run_id)
        self._load.handed(run_id)
        try:
            yield
        finally:
            self._runs.discard(run_id)
            self._load.left(run_id)

    def _facts(self, engine: AsyncLLM) -> EngineFacts:
        config = engine.vllm_config
        cache = config.cache_config
        # One of vLLM's blocks is its null block, which holds nothing.
        blocks = (cache.num_gpu_blocks or 1) - 1
        return EngineFacts(
            engine=f"vllm {vllm.__version__}",
            block_size=cache.block_size,
            capacity_blocks=blocks if cache.enable_prefix_caching else 0,
            max_running=config.scheduler_config.max_num_seqs,
            step_budget_tokens=config.scheduler_config.max_num_batched_tokens,
            max_model_tokens=config.model_config.max_model_len,
            vocabulary_size=config.model_config.get_vocab_size(),
            adapter_slots=self._settings.max_loras,
        )

    async def _warm_up(self) -> None:
        """The first log-probabilities compile for seconds, in the middle of a step."""
        sampling = Sampling(temperature=0.0, logprobs=1, ignore_eos=True)
        run = Run(
            run_id="warm-up",
            tokens=[1],
            generated=0,
            choice=0,
            max_tokens=2,
            min_tokens=0,
            sampling=sampling,
        )
        await self.generate(run, lambda _: True)


def _reasoning(sampling: Sampling) -> dict[str, Any]:
    """From where on a constraint holds: vLLM would wait for reasoning that may never come."""
    if sampling.constraint is None:
        return {}
    if sampling.thinking is None:
        return {"reasoning_ended": True}
    kwargs = {"chat_template_kwargs": dict(sampling.thinking)}
    return {"reasoning_ended": False, "reasoning_parser_kwargs": kwargs}


@contextmanager
def _renamed_errors() -> Iterator[None]:
    """The boundary: vLLM's exceptions end here."""
    try:
        yield
    except (EngineRefused, EngineBroken):
        raise
    except VLLMClientError as error:
        raise refusal(error) from error
    except GracefulHTTPError as error:
        raise EngineFull("vLLM's queue is full") from error
    except EngineDeadError as error:
        raise EngineBroken("the vLLM engine process died") from error
    # vLLM's own `generate` takes whatever else is raised for a failure of this run alone.
    except Exception as error:
        log.exception("vLLM failed a run")
        raise EngineBroken("vLLM failed a run") from error
