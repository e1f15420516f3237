"""The process: it starts, serves, drains and ends; or says in one line why not."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from headway.tokenizer.v1 import tokenizer_pb2 as pb
from headway.tokenizer.v1 import tokenizer_pb2_grpc as rpc
from services.tokenizer.__main__ import run

COMMAND = [sys.executable, "-m", "services.tokenizer"]


def environment(**settings: str) -> Mapping[str, str]:
    named = {f"TOKENIZER_{name}": value for name, value in settings.items()}
    return {**os.environ, "HF_HUB_OFFLINE": "1", **named}


@contextmanager
def tokenizer(**settings: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        COMMAND, env=environment(**settings), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def serving_port(process: "subprocess.Popen[str]") -> int:
    assert process.stderr is not None
    for line in process.stderr:
        said = json.loads(line)
        if said["event"] == "serving":
            return int(said["port"])
    raise AssertionError("it ended before it served")


def test_it_serves_and_drains(demo_model: Path) -> None:
    with (
        tokenizer(MODELS=f"smollm2={demo_model}", LISTEN="127.0.0.1:0", DRAIN_S="10") as process,
        grpc.insecure_channel(f"127.0.0.1:{serving_port(process)}") as channel,
    ):
        stub = rpc.TokenizerServiceStub(channel)
        request = pb.EncodeBatchesRequest(
            batch=1, items=[pb.EncodeRequest(model="smollm2", text="x")]
        )
        ended = threading.Event()

        def ask() -> Iterator[pb.EncodeBatchesRequest]:
            yield request
            ended.wait()

        answers = stub.EncodeBatches(ask())
        assert next(answers).batch == 1
        torch_is_loaded = "torch" in Path(f"/proc/{process.pid}/maps").read_text()
        process.terminate()
        assert list(answers) == []  # the service ends the stream; it does not wait for the caller
        assert process.wait(timeout=8) == 0
        ended.set()
        assert not torch_is_loaded


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({}, "TOKENIZER_MODELS must be set", id="no-models"),
        pytest.param({"MODELS": "m=/m", "SPEED": "1"}, "TOKENIZER_SPEED", id="unknown-setting"),
    ],
)
def test_wrong_settings_stop_the_start(
    settings: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"TOKENIZER_{name}", value)
    assert run() == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_missing_model_stops_the_start() -> None:
    settings = environment(MODELS="m=/nowhere")
    ended = subprocess.run(COMMAND, env=settings, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("tokenizer: TOKENIZER_MODELS names /nowhere")


@pytest.mark.parametrize("door", ["LISTEN", "METRICS_LISTEN"])
def test_a_taken_port_says_so(demo_model: Path, door: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = {"LISTEN": "127.0.0.1:0", "MODELS": f"m={demo_model}", door: address}
        ended = subprocess.run(
            COMMAND, env=environment(**settings), capture_output=True, text=True, check=False
        )
    assert ended.returncode == 2
    assert f"cannot listen on {address}" in ended.stderr.splitlines()[-1]
