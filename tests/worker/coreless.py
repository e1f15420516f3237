"""vLLM's front half on an engine core that the test plays: its steps are brought by hand."""

import time
import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

# Importing vLLM and torch warns of what they use themselves.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine import (
        EngineCoreEvent,
        EngineCoreEventType,
        EngineCoreOutput,
        EngineCoreRequest,
        FinishReason,
    )
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
    from vllm.v1.metrics.stats import IterationStats

MOVED = "services/worker/vllm_tap.py stands on what is no longer so: "


class Core:
    """Notes what it is told to abort."""

    def __init__(self) -> None:
        self.resources = SimpleNamespace(engine_dead=False)
        self.aborted: list[str] = []

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        self.aborted += request_ids


class Coreless(AsyncLLM):
    """AsyncLLM with its own output processor and collectors, and its own `abort`."""

    def __init__(self) -> None:
        self.core = Core()
        self.engine_core: Any = self.core
        self.output_processor = OutputProcessor(None, log_stats=True)
        self.output_handler = None
        self.log_requests = False
        self.refusal: Exception | None = None
        self.early: Sequence[int] = ()  # tokens that a run has before its caller hears of it

    def shutdown(self, timeout: float | None = None) -> None:
        """There is nothing to end."""

    async def add_request(  # type: ignore[override]
        self, request_id: str, prompt: Any, params: SamplingParams, **_: Any
    ) -> RequestOutputCollector:
        """As vLLM's, without the checks."""
        if self.refusal is not None:
            raise self.refusal
        collector = RequestOutputCollector(params.output_kind, f"{request_id}-internal")
        register(self.output_processor, request_id, prompt["prompt_token_ids"], params, collector)
        for token in self.early:
            self.step({request_id: [token]})
        return collector

    def step(
        self, tokens: dict[str, list[int]], end: FinishReason | None = None, first: bool = False
    ) -> None:
        """Bring a step's tokens, by request."""
        bring(self.output_processor, tokens, end, first)

    @property
    def unfinished(self) -> int:
        """Requests that it holds still."""
        count: int = self.output_processor.get_num_unfinished_requests()  # type: ignore[no-untyped-call]
        return count


def register(
    processor: OutputProcessor,
    request_id: str,
    prompt: list[int],
    params: SamplingParams,
    collector: RequestOutputCollector,
) -> None:
    """Have the processor expect a request's outputs."""
    request = EngineCoreRequest(
        request_id=collector.request_id,
        prompt_token_ids=prompt,
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
        external_req_id=request_id,
    )
    processor.add_request(request, None, None, 0, collector)


def bring(
    processor: OutputProcessor,
    tokens: dict[str, list[int]],
    end: FinishReason | None = None,
    first: bool = False,
) -> None:
    """Process a step's outputs, as vLLM's output task does."""
    kinds = (EngineCoreEventType.QUEUED, EngineCoreEventType.SCHEDULED)
    outputs = [
        EngineCoreOutput(
            request_id=f"{request_id}-internal",
            new_token_ids=new,
            finish_reason=end,
            events=[EngineCoreEvent.new_event(kind) for kind in kinds] if first else None,
        )
        for request_id, new in tokens.items()
    ]
    stats = IterationStats()  # type: ignore[no-untyped-call]
    processor.process_outputs(outputs, time.monotonic(), stats)


def streaming() -> SamplingParams:
    """Sampling as our engine asks for it."""
    return SamplingParams(detokenize=False, output_kind=RequestOutputKind.DELTA)
