"""Real vLLM on one core: its own server, and Headway with one worker, under the same settings."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bench.overhead.children import HOST, free_port, started
from bench.overhead.gateway import Gateway, Place, until_chats
from bench.overhead.headway import up
from bench.overhead.workload import MODEL

SETTINGS = {
    "dtype": "float32",
    "block-size": "32",
    "kv-cache-memory-bytes": str(384 << 20),
    "max-num-seqs": "16",
    "max-model-len": "-1",
    "prefix-caching-hash-algo": "sha256_cbor",
    "scheduling-policy": "priority",
}
"""What services/worker/vllm_process.py sets on a CPU. Cache events are left out: only Headway
reads them, so they are its own cost."""
SWITCHES = (
    "enforce-eager",
    "enable-prefix-caching",
    "disable-log-stats",
    "disable-uvicorn-access-log",
)
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def vllm_serve(place: Place) -> Iterator[Gateway]:
    """vLLM's own OpenAI server, pinned to the core that Headway's first worker is pinned to."""
    port = free_port()
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    flags += [f"--{name}" for name in SWITCHES]
    listen = ["--host", HOST, "--port", str(port), "--served-model-name", MODEL]
    # What `vllm serve` runs; itself it looks for a package named vllm, and its CPU build is not.
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"]
    model = ["--model", str(place.tools.model)]
    with started(
        [*command, *model, *listen, *flags], place.home / "gateway.log", ENVIRONMENT
    ) as child:
        # It has not begun to import; its threads and processes inherit this.
        os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
        yield replace(until_chats(port, child), services={})


@contextmanager
def headway_vllm(place: Place) -> Iterator[Gateway]:
    """Headway with one worker on vLLM."""
    with up(place, "--workers", "1") as gateway:
        yield gateway
