"""A run on vLLM, from its start to each of its ends; vLLM's engine core is played."""

import asyncio
import warnings

import pytest

from services.worker.engine import (
    EndReason,
    EngineBroken,
    EngineFull,
    EngineRefused,
    Output,
    Push,
    Run,
    Sampling,
)
from tests.worker.coreless import Coreless

# Importing vLLM and torch warns of what they use themselves.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vllm.exceptions import QueueOverflowError, VLLMValidationError
    from vllm.v1.engine import FinishReason
    from vllm.v1.engine.exceptions import EngineDeadError
    from vllm.v1.metrics.stats import SchedulerStats

    from services.worker.vllm_engine import VllmEngine
    from services.worker.vllm_process import EngineSettings


class Played:
    """Our engine, and the runs on it."""

    def __init__(self) -> None:
        self.vllm = Coreless()
        self.engine = VllmEngine(EngineSettings(model="", model_name="m"))
        self.engine._engine = self.vllm
        self.outputs: dict[str, list[Output]] = {}

    async def begin(self, name: str, push: Push | None = None) -> "asyncio.Task[None]":
        """Start a run; what it brings is kept unless `push` takes it."""
        kept = self.outputs[name] = []

        def keep(output: Output) -> bool:
            kept.append(output)
            return True

        run = Run(
            run_id=name,
            tokens=[1, 2],
            generated=0,
            choice=0,
            max_tokens=9,
            min_tokens=0,
            sampling=Sampling(),
        )
        task = asyncio.create_task(self.engine.generate(run, push or keep))
        await turns()
        return task

    def step(self, *names: str, end: FinishReason | None = None, first: bool = False) -> None:
        """Bring a token to each of these, and vLLM's report after it."""
        self.vllm.step({name: [7] for name in names}, end, first)
        running = self.vllm.unfinished
        self.engine._load.record(SchedulerStats(num_running_reqs=running), None)

    def tokens(self, name: str) -> list[list[int]]:
        return [list(output.token_ids) for output in self.outputs[name]]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_outputs_come_within_their_step_and_the_last_ends_the_run() -> None:
    played = Played()
    run = await played.begin("a")
    played.step("a", first=True)
    played.step("a")
    assert played.tokens("a") == [[7], [7]]
    assert not run.done()
    played.step("a", end=FinishReason.LENGTH)
    await run
    first, last = played.outputs["a"][0].first, played.outputs["a"][-1].end
    assert first is not None
    assert first.scheduled_s <= first.first_token_s
    assert [output.first for output in played.outputs["a"][1:]] == [None, None]
    assert last is not None
    assert last.reason is EndReason.LENGTH
    assert played.vllm.core.aborted == []


async def test_tokens_that_came_before_their_run_was_known_are_its_first_output() -> None:
    played = Played()
    played.vllm.early = (5, 6)
    await played.begin("a")
    played.step("a")
    assert played.tokens("a") == [[5, 6], [7]]


async def test_those_that_decode_beside_a_prefill_are_told() -> None:
    played = Played()
    for names in (("a",), ("b", "c")):
        for name in names:
            await played.begin(name)
        played.step(*played.outputs, first=True)
    firsts = [played.outputs[name][0].first for name in "abc"]
    assert [first.decoding_requests for first in firsts if first] == [0, 1, 1]


async def test_a_run_of_which_no_more_is_wanted_is_aborted() -> None:
    played = Played()
    run = await played.begin("a", lambda _: False)
    played.step("a")
    played.step("a")
    await run
    assert played.vllm.core.aborted == ["a-internal"]
    assert played.vllm.unfinished == 0


async def test_a_cancelled_run_is_aborted_and_gets_nothing_more() -> None:
    played = Played()
    run = await played.begin("a")
    run.cancel()
    played.step("a")  # before its task knows
    with pytest.raises(asyncio.CancelledError):
        await run
    assert played.outputs["a"] == []
    assert played.vllm.core.aborted == ["a-internal"]
    assert played.vllm.unfinished == 0


async def test_an_aborted_run_ends_at_once() -> None:
    played = Played()
    run = await played.begin("a")
    await played.engine.abort(["a"])
    (output,) = played.outputs["a"]
    assert output.end is not None
    assert output.end.reason is EndReason.ABORTED
    await run


async def test_a_push_that_raises_breaks_its_run_alone() -> None:
    played = Played()

    def bad(output: Output) -> bool:
        raise LookupError("a secret of ours")

    broken, fine = await played.begin("a", bad), await played.begin("b")
    played.step("a", "b")
    played.step("a", "b", end=FinishReason.STOP)
    await fine
    with pytest.raises(EngineBroken, match="could not be taken"):
        await broken
    assert played.tokens("b") == [[7], [7]]


async def test_an_end_that_vllm_calls_an_error_breaks_its_run() -> None:
    played = Played()
    run = await played.begin("a")
    played.step("a", end=FinishReason.ERROR)
    with pytest.raises(EngineBroken):
        await run


@pytest.mark.parametrize(
    ("error", "renamed"),
    [
        pytest.param(EngineDeadError(), "the vLLM engine process died", id="its-death"),
        pytest.param(RuntimeError("a secret"), "vLLM failed a run", id="anything-else"),
    ],
)
async def test_an_error_that_vllm_puts_ends_the_run(error: Exception, renamed: str) -> None:
    played = Played()
    run = await played.begin("a")
    played.vllm.output_processor.propagate_error(error)
    with pytest.raises(EngineBroken, match=renamed):
        await run


@pytest.mark.parametrize(
    ("error", "renamed"),
    [
        pytest.param(VLLMValidationError("no"), EngineRefused, id="a-bad-request"),
        pytest.param(QueueOverflowError(), EngineFull, id="a-full-queue"),  # type: ignore[no-untyped-call]
        pytest.param(EngineDeadError(), EngineBroken, id="its-death"),
        pytest.param(ValueError("a secret"), EngineBroken, id="anything-else"),
    ],
)
async def test_an_error_at_the_start_is_renamed(error: Exception, renamed: type[Exception]) -> None:
    played = Played()
    played.vllm.refusal = error
    run = await played.begin("a")
    with pytest.raises(renamed) as raised:
        await run
    assert "secret" not in str(raised.value)
