"""A worker process: how it starts, and how it ends."""

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from headway.worker.v1 import worker_pb2 as pb
from tests.worker.launched import Launched, environment, launched, start

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def long_request(max_tokens: int) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        request_id="r",
        model="main",
        prompt_token_ids=[1, 2, 3],
        sampling=pb.Sampling(max_tokens=max_tokens, temperature=0),
    )


def serving(worker: Launched) -> None:
    worker.scheduler.wait_for(lambda: worker.scheduler.reports)
    assert worker.status() == SERVING


def test_it_serves_and_stops_when_asked(demo_model: Path, tmp_path: Path) -> None:
    with launched(demo_model, tmp_path / "log") as worker:
        serving(worker)
        assert worker.stop() == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_what_runs_ends_before_it_does(demo_model: Path, tmp_path: Path) -> None:
    with launched(demo_model, tmp_path / "log") as worker:
        serving(worker)
        call = worker.stub.Generate(long_request(60))
        next(call)
        worker.process.terminate()
        last = list(call)[-1].delta
        assert worker.process.wait(10) == 0
    assert last.finish.completion_tokens == 60


def test_what_takes_too_long_moves(demo_model: Path, tmp_path: Path) -> None:
    with launched(demo_model, tmp_path / "log", WORKER_DRAIN_S="0.2") as worker:
        serving(worker)
        call = worker.stub.Generate(long_request(8000))
        next(call)
        worker.process.terminate()
        with pytest.raises(grpc.RpcError) as ended:
            list(call)
        assert worker.process.wait(10) == 0
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    assert ended.value.details() == "the worker is shutting down"


def test_a_drained_worker_stays_and_serves_nothing_new(demo_model: Path, tmp_path: Path) -> None:
    with launched(demo_model, tmp_path / "log") as worker:
        serving(worker)
        worker.scheduler.drain()
        worker.scheduler.wait_for(lambda: worker.scheduler.reports[-1].draining)
        assert worker.status() == NOT_SERVING
        with pytest.raises(grpc.RpcError) as refused:
            list(worker.stub.Generate(long_request(1)))
        assert worker.stop() == 0
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({"WORKER_SIM": "speed=9"}, "WORKER_SIM: 'speed' is no setting", id="no-knob"),
        pytest.param({"WORKER_MODEL": "/nowhere"}, "WORKER_MODEL: no tokenizer", id="no-model"),
        pytest.param(
            {"WORKER_ENGINE": "vllm", "WORKER_ADAPTERS": "poet=/nowhere"},
            "WORKER_ADAPTERS: 'poet' is no adapter in '/nowhere'",
            id="no-adapter",
        ),
        pytest.param({"WORKER_CPU_CORE": "9999"}, "no core 9999", id="no-core"),
        pytest.param({"WORKER_TYPO": "1"}, "WORKER_TYPO is no setting", id="no-such-variable"),
        pytest.param({"WORKER_LISTEN": "192.0.2.1:1"}, "cannot listen", id="not-our-address"),
    ],
)
def test_wrong_settings_are_one_line(
    demo_model: Path, changes: dict[str, str], complaint: str
) -> None:
    process = start(environment(demo_model, "127.0.0.1:1", **changes))
    _, errors = process.communicate(timeout=30)
    lines = [line for line in errors.splitlines() if not line.startswith("{")]
    assert process.returncode == 2
    assert len(lines) == 1, errors
    assert complaint in lines[0]
