"""Every service answers a person with a reflection client: no proto file, no generated code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.system import System

pytestmark = pytest.mark.vllm

BUF = Path(sys.executable).parent / "buf"


def call(address: str, method: str, request: dict[str, Any]) -> tuple[list[Any], str]:
    """Call a method through reflection: the answers, and the error as text."""
    done = subprocess.run(
        [
            BUF,
            "curl",
            "--protocol=grpc",
            "--http2-prior-knowledge",
            f"--data={json.dumps(request)}",
            f"http://{address}/{method}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    decoder, answers, rest = json.JSONDecoder(), [], done.stdout.strip()
    while rest:
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].strip()
    return answers, done.stderr


def test_a_prompt_by_hand_through_all_services(vllm_system: System) -> None:
    tokenizer = vllm_system.address("tokenizer")
    scheduler = vllm_system.address("scheduler")
    chat = {"messages": [{"role": "user", "content": "Say hello."}]}
    [encoded], _ = call(
        tokenizer,
        "headway.tokenizer.v1.TokenizerService/Encode",
        {"model": "smollm2", "chat": chat},
    )
    ids = encoded["tokenIds"]
    place = {
        "requestId": "by-hand",
        "model": "smollm2",
        "promptTokens": len(ids),
        "maxTokens": 4,
        "blockSize": encoded["blockSize"],
        "blockHashes": encoded.get("blockHashes", []),
    }
    [placed], _ = call(scheduler, "headway.scheduler.v1.SchedulerService/Place", place)
    generate = {
        "requestId": "by-hand",
        "model": "smollm2",
        "promptTokenIds": ids,
        "sampling": {"temperature": 0, "maxTokens": 4},
    }
    answers, _ = call(placed["address"], "headway.worker.v1.WorkerService/Generate", generate)
    generated = [token for answer in answers for token in answer["delta"].get("tokenIds", [])]
    text = "".join(answer["delta"].get("text", "") for answer in answers)
    assert answers[-1]["delta"]["finish"]["completionTokens"] == len(generated) == 4
    [decoded], _ = call(
        tokenizer,
        "headway.tokenizer.v1.TokenizerService/Decode",
        {"model": "smollm2", "tokenIds": generated},
    )
    assert decoded["text"] == text
    finished, _ = call(
        scheduler, "headway.scheduler.v1.SchedulerService/Finish", {"requestId": "by-hand"}
    )
    assert finished == [{}]


def test_the_services_describe_themselves(vllm_system: System) -> None:
    [models], _ = call(
        vllm_system.address("tokenizer"), "headway.tokenizer.v1.TokenizerService/ListModels", {}
    )
    assert {"smollm2", "minilm"} <= {model["name"] for model in models["models"]}
    [fleet], _ = call(
        vllm_system.address("scheduler"), "headway.scheduler.v1.SchedulerService/ListWorkers", {}
    )
    assert len(fleet["workers"]) == 3
    [worker], _ = call(
        vllm_system.address("worker"), "headway.worker.v1.WorkerService/Describe", {}
    )
    assert worker["engine"].startswith("vllm ")


def test_an_embedding_by_hand(vllm_system: System) -> None:
    [encoded], _ = call(
        vllm_system.address("tokenizer"),
        "headway.tokenizer.v1.TokenizerService/Encode",
        {"model": "minilm", "text": "the sea"},
    )
    [embedded], _ = call(
        vllm_system.address("worker", 2),
        "headway.worker.v1.WorkerService/Embed",
        {"requestId": "e", "model": "minilm", "tokenIds": encoded["tokenIds"]},
    )
    assert len(embedded["values"]) == 384
    assert sum(value * value for value in embedded["values"]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("service", "method", "request_", "code"),
    [
        pytest.param(
            "tokenizer",
            "headway.tokenizer.v1.TokenizerService/Encode",
            {"model": "nobody", "text": "a"},
            "not_found",
            id="tokenizer-unknown-model",
        ),
        pytest.param(
            "tokenizer",
            "headway.tokenizer.v1.TokenizerService/Encode",
            {"model": "smollm2", "text": ""},
            "invalid_argument",
            id="tokenizer-empty-prompt",
        ),
        pytest.param(
            "tokenizer",
            "headway.tokenizer.v1.TokenizerService/Decode",
            {"model": "smollm2", "tokenIds": [4_000_000]},
            "invalid_argument",
            id="tokenizer-id-out-of-vocabulary",
        ),
        pytest.param(
            "scheduler",
            "headway.scheduler.v1.SchedulerService/Place",
            {"requestId": "x", "model": "nobody", "promptTokens": 5},
            "not_found",
            id="scheduler-unknown-model",
        ),
        pytest.param(
            "scheduler",
            "headway.scheduler.v1.SchedulerService/Finish",
            {"requestId": "nobody"},
            "not_found",
            id="scheduler-unknown-request",
        ),
        pytest.param(
            "scheduler",
            "headway.scheduler.v1.SchedulerService/DrainWorker",
            {"workerId": "nobody"},
            "not_found",
            id="scheduler-unknown-worker",
        ),
        pytest.param(
            "worker",
            "headway.worker.v1.WorkerService/Generate",
            {"requestId": "x", "model": "smollm2", "promptTokenIds": [4_000_000]},
            "invalid_argument",
            id="worker-id-out-of-vocabulary",
        ),
        pytest.param(
            "worker",
            "headway.worker.v1.WorkerService/Generate",
            {"requestId": "x", "model": "nobody", "promptTokenIds": [1]},
            "not_found",
            id="worker-unknown-model",
        ),
        pytest.param(
            "worker",
            "headway.worker.v1.WorkerService/Abort",
            {"requestId": "nobody"},
            "not_found",
            id="worker-unknown-request",
        ),
    ],
)
def test_bad_input_by_hand_is_a_clear_status(
    vllm_system: System, service: str, method: str, request_: dict[str, Any], code: str
) -> None:
    address = vllm_system.address(service)
    answers, error = call(address, method, request_)
    assert answers == []
    assert json.loads(error)["code"] == code, error
    assert json.loads(error)["message"]
    package = method.rpartition("/")[0]
    health = call(address, "grpc.health.v1.Health/Check", {"service": package})
    assert health[0] == [{"status": "SERVING"}]
