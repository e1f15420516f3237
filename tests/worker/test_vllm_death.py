"""How a worker on real vLLM ends when it is killed, or its engine is."""

import os
import signal
from pathlib import Path

import grpc
import pytest

from headway.worker.v1 import worker_pb2 as pb
from tests.worker.launched import children, environment, launched, start, wait_until_gone

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]


def test_a_dead_engine_fails_its_requests_and_ends_the_worker(
    demo_model: Path, tmp_path: Path
) -> None:
    with launched(
        demo_model, tmp_path / "log", 200, WORKER_ENGINE="vllm", WORKER_MAX_MODEL_LEN="512"
    ) as worker:
        below = children(worker.process.pid)
        (engine,) = [pid for pid, name in below.items() if "EngineCore" in name]
        request = pb.GenerateRequest(
            request_id="r",
            model="main",
            prompt_token_ids=[1, 2, 3],
            sampling=pb.Sampling(temperature=0, max_tokens=400, ignore_eos=True),
        )
        call = worker.stub.Generate(request)
        next(call)
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(grpc.RpcError) as failed:
            list(call)
        assert worker.process.wait(10) == 1
        assert wait_until_gone(list(below)) == []
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    assert failed.value.details() == "the engine failed"
    assert "worker: the vLLM engine process died" in (tmp_path / "log").read_text().splitlines()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_engine_outlives_a_worker_that_ends_while_it_starts(
    demo_model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(environment(demo_model, "127.0.0.1:1", WORKER_ENGINE="vllm"))
    assert process.stderr is not None
    below: dict[int, str] = {}
    for _ in process.stderr:  # vLLM logs all along
        below = children(process.pid)
        if any("multiprocessing.spawn" in name or "EngineCore" in name for name in below.values()):
            break
    process.send_signal(number)
    process.stderr.close()
    assert process.wait(10) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    assert wait_until_gone(list(below)) == []
