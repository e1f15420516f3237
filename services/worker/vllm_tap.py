"""The seam to vLLM's output processor: outputs are taken where it puts them, not where they wait.

`AsyncLLM.generate` costs a task that wakes for each request and each step. But whatever becomes
of a request, an output, an abort or the engine's death, reaches it through one call: `put` of
the collector that the public `add_request` returns, within the step's own turn of the loop. So
`put` is replaced on that collector. tests/worker/test_vllm_tap.py says what an upgrade moved.
"""

from collections.abc import Callable

from vllm.outputs import PoolingRequestOutput, RequestOutput
from vllm.v1.engine.output_processor import RequestOutputCollector

Sink = Callable[[RequestOutput | PoolingRequestOutput | Exception], None]


def tap(collector: RequestOutputCollector, sink: Sink) -> None:
    """Give `sink` everything of a request, as it comes, in order; first what has come already.

    Raises vLLM's error when the request has failed already.
    """
    waiting = collector.get_nowait()
    collector.put = sink  # type: ignore[method-assign, assignment]
    if waiting is not None:
        sink(waiting)
