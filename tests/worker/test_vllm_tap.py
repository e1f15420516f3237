"""The seam to vLLM: where it is, and, after an upgrade of vLLM, what of it moved."""

import inspect
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.worker.coreless import MOVED, bring, register, streaming
from tests.worker.launched import environment

# Importing vLLM and torch warns of what they use themselves.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector

    from services.worker.vllm_tap import tap


class Tapped:
    """vLLM's own output processor with one request, tapped."""

    def __init__(self) -> None:
        self.processor = OutputProcessor(None, log_stats=True)
        self.collector = RequestOutputCollector(streaming().output_kind, "r-internal")
        self.sunk: list[Any] = []
        register(self.processor, "r", [1, 2], streaming(), self.collector)

    def tap(self) -> None:
        tap(self.collector, self.sunk.append)

    @property
    def tokens(self) -> list[list[int]]:
        return [list(each.outputs[0].token_ids) for each in self.sunk]


def test_the_collector_is_what_a_request_gets() -> None:
    answer = inspect.signature(AsyncLLM.add_request).return_annotation
    assert answer is RequestOutputCollector, f"{MOVED}AsyncLLM.add_request returns {answer}"
    for name in ("put", "get_nowait"):
        assert hasattr(RequestOutputCollector, name), f"{MOVED}the collector's `{name}`"


def test_a_step_puts_its_outputs() -> None:
    tapped = Tapped()
    tapped.tap()
    bring(tapped.processor, {"r": [7]})
    bring(tapped.processor, {"r": [8, 9]})
    moved = f"{MOVED}`process_outputs` hands outputs over by `put` of the request's collector"
    assert tapped.tokens == [[7], [8, 9]], moved
    assert tapped.collector.output is None


def test_an_abort_puts_its_output() -> None:
    tapped = Tapped()
    tapped.tap()
    tapped.processor.abort_requests(["r"], internal=False)
    reasons = [each.outputs[0].finish_reason for each in tapped.sunk]
    assert reasons == ["abort"], f"{MOVED}`abort_requests` puts a last output, by outer id"


def test_the_engines_death_puts_its_error() -> None:
    tapped = Tapped()
    tapped.tap()
    death = RuntimeError("dead")
    tapped.processor.propagate_error(death)
    assert tapped.sunk == [death], f"{MOVED}`propagate_error` puts the error"


def test_what_came_before_the_tap_comes_first_and_merged() -> None:
    tapped = Tapped()
    bring(tapped.processor, {"r": [7]})
    bring(tapped.processor, {"r": [8]})
    tapped.tap()
    bring(tapped.processor, {"r": [9]})
    assert tapped.tokens == [[7, 8], [9]], f"{MOVED}`get_nowait` returns what was put before"


def test_an_error_that_came_before_the_tap_is_raised() -> None:
    tapped = Tapped()
    tapped.processor.propagate_error(RuntimeError("dead"))
    with pytest.raises(RuntimeError):
        tapped.tap()


def test_outputs_are_vllms_own_kind() -> None:
    """A collector holds a run's outputs as this kind; the tap reads nothing else."""
    tapped = Tapped()
    tapped.tap()
    bring(tapped.processor, {"r": [7]})
    assert [type(each) for each in tapped.sunk] == [RequestOutput]


@pytest.mark.vllm
@pytest.mark.timeout(400)
def test_real_vllm_pushes_within_its_steps(demo_model: Path) -> None:
    # In a process of its own: vLLM leaves sockets and an environment behind.
    watched = subprocess.run(
        [sys.executable, "-m", "tests.worker.watched_vllm", str(demo_model)],
        env=environment(demo_model, ""),
        capture_output=True,
        text=True,
    )
    assert watched.returncode == 0, watched.stderr[-3000:]
