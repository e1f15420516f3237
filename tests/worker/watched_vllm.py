"""Real vLLM, watched while it runs: `python -m tests.worker.watched_vllm MODEL`."""

import asyncio
import sys
from typing import Any

from vllm.v1.engine.output_processor import RequestOutputCollector

from services.worker.engine import EndReason, Output, Push, Run, Sampling
from services.worker.vllm_engine import VllmEngine
from services.worker.vllm_process import EngineSettings
from tests.worker.coreless import MOVED


class Real:
    """Our engine on real vLLM; its steps and its readers are watched."""

    def __init__(self, engine: VllmEngine) -> None:
        vllm = engine._engine
        assert vllm is not None
        self.engine = engine
        self.vllm = vllm
        self.steps = 0
        self.is_in_step = False
        self.readers = 0
        processed, read = vllm.output_processor.process_outputs, RequestOutputCollector.get

        def process_outputs(*arguments: Any, **named: Any) -> Any:
            self.steps += 1
            self.is_in_step = True
            try:
                return processed(*arguments, **named)
            finally:
                self.is_in_step = False

        async def get(collector: RequestOutputCollector) -> Any:
            self.readers += 1
            return await read(collector)

        vllm.output_processor.process_outputs = process_outputs  # type: ignore[method-assign]
        RequestOutputCollector.get = get  # type: ignore[method-assign, assignment]

    async def generate(self, run_id: str, push: Push, max_tokens: int = 12) -> None:
        sampling = Sampling(temperature=0.0, ignore_eos=True)
        run = Run(
            run_id=run_id,
            tokens=[1, 2, 3],
            generated=0,
            choice=0,
            max_tokens=max_tokens,
            min_tokens=0,
            sampling=sampling,
        )
        try:
            await asyncio.wait_for(self.engine.generate(run, push), 60)
        except TimeoutError as error:
            moved = f"{MOVED}a run's outputs, and its end, come by `put` of its collector"
            raise AssertionError(moved) from error


async def runs_share_steps_and_wake_no_reader(real: Real) -> None:
    outputs: dict[str, list[Output]] = {name: [] for name in "abcd"}
    outside = 0

    def taking(name: str) -> Push:
        def push(output: Output) -> bool:
            nonlocal outside
            outside += not real.is_in_step
            outputs[name].append(output)
            return True

        return push

    await asyncio.gather(*(real.generate(name, taking(name)) for name in outputs))
    for name, each in outputs.items():
        assert sum(len(output.token_ids) for output in each) == 12, name
        assert [output.first is not None for output in each] == [True, *[False] * (len(each) - 1)]
        assert each[-1].end is not None
    assert outside == 0, f"{MOVED}outputs are put while the output processor processes a step"
    assert real.readers == 0, f"{MOVED}nobody waits for outputs in a collector"
    assert real.steps < sum(map(len, outputs.values())), "the runs shared no step"


async def a_bad_push_is_its_own_runs_alone(real: Real) -> None:
    tokens: list[int] = []

    def good(output: Output) -> bool:
        tokens.extend(output.token_ids)
        return True

    def bad(output: Output) -> bool:
        raise RuntimeError("of ours")

    outcomes = await asyncio.gather(
        real.generate("bad", bad), real.generate("good", good), return_exceptions=True
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["EngineBroken", "NoneType"]
    assert len(tokens) == 12
    handler = real.vllm.output_handler
    assert handler is not None
    assert not handler.done(), "what a push raises ended vLLM's output task"


async def who_wants_no_more_or_is_cancelled_leaves_nothing_behind(real: Real) -> None:
    ends: list[EndReason] = []
    began = asyncio.Event()

    def push(output: Output) -> bool:
        began.set()
        if output.end is not None:
            ends.append(output.end.reason)
        return True

    await real.generate("one", lambda _: False, max_tokens=400)
    for leave in ("cancel", "abort"):
        began.clear()
        running = asyncio.create_task(real.generate(leave, push, max_tokens=400))
        await began.wait()
        if leave == "cancel":
            running.cancel()
        else:
            await real.engine.abort([leave])
        await asyncio.wait({running})
    assert ends == [EndReason.ABORTED]
    assert real.vllm.output_processor.get_num_unfinished_requests() == 0  # type: ignore[no-untyped-call]
    await real.engine.abort([])  # waits for a step, if any is to come
    assert real.engine.load().running == 0


async def main(model: str) -> None:
    """Watch it from its start to its end. Raises AssertionError for what is not as it has to be."""
    engine = VllmEngine(
        EngineSettings(model=model, model_name="m", max_model_len=512, kv_cache_bytes=48 << 20)
    )
    await engine.start()
    try:
        real = Real(engine)
        await runs_share_steps_and_wake_no_reader(real)
        await a_bad_push_is_its_own_runs_alone(real)
        await who_wants_no_more_or_is_cancelled_leaves_nothing_behind(real)
    finally:
        await engine.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
