"""Starts and ends vLLM's engine process, so that none outlives its worker."""

import asyncio
import multiprocessing
import multiprocessing.resource_tracker
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM

from services.worker import tether
from services.worker.vllm_load import LoadLogger

_CPU_BLOCK_SIZE = 32  # the smallest that vLLM's CPU attention takes
_CPU_KV_CACHE_BYTES = 384 << 20  # the demo model's whole context in float32
_CPU_MAX_RUNNING = 16
_END_S = 1.5  # vLLM's process gets this long to end by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What the operator chose; 0 and "" mean the platform's default."""

    model: str
    model_name: str
    is_embedding: bool = False
    reasoning_parser: str = ""
    dtype: str = ""
    block_size: int = 0
    max_model_len: int = 0
    kv_cache_bytes: int = 0
    max_running: int = 0
    adapters: Mapping[str, str] = field(default_factory=dict)
    max_loras: int = 0
    max_lora_rank: int = 0


class EngineProcess:
    """vLLM's engine process, the thread that owns it and the directory of its sockets."""

    def __init__(self, settings: EngineSettings, load: LoadLogger) -> None:
        self._settings = settings
        self._load = load
        self._directory = Path(tempfile.mkdtemp(prefix="headway-worker-"))
        # The engine process is tethered to the thread that starts it, not to the process:
        # this thread lives as long as the worker.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    @property
    def event_endpoints(self) -> tuple[str, str]:
        """Where vLLM publishes its KV events, and where it replays them."""
        return f"ipc://{self._directory}/events", f"ipc://{self._directory}/replay"

    async def start(self) -> AsyncLLM:
        """Start it, while the event loop goes on."""
        set_environment(os.environ, is_cpu=current_platform.is_cpu())
        self._tether_children()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._build)

    async def stop(self, engine: AsyncLLM | None) -> None:
        """End it, also while it starts. Nothing is left behind."""
        if engine is not None:
            engine.shutdown(timeout=_END_S)
        for child in multiprocessing.active_children():
            child.kill()
        self._thread.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _build(self) -> AsyncLLM:
        arguments = AsyncEngineArgs(**self._arguments(is_cpu=current_platform.is_cpu()))
        return AsyncLLM.from_engine_args(arguments, stat_loggers=[self._load])

    def _arguments(self, *, is_cpu: bool) -> dict[str, Any]:
        settings = self._settings
        arguments: dict[str, Any] = {
            "model": settings.model,
            "served_model_name": settings.model_name,
            "dtype": settings.dtype or ("float32" if is_cpu else "auto"),
            "enforce_eager": is_cpu,
            "max_model_len": settings.max_model_len or -1,  # -1: what the cache can hold
            "disable_log_stats": True,
        }
        if settings.is_embedding:
            arguments |= {"runner": "pooling", "max_model_len": settings.max_model_len or None}
        else:
            arguments |= self._generation_arguments()
        return arguments | self._sizes(is_cpu=is_cpu) | self._lora_arguments()

    def _lora_arguments(self) -> dict[str, Any]:
        settings = self._settings
        if not settings.adapters:
            return {}  # room for adapters slows every request, those of the base model too
        # Not more in memory than in a batch: what is loaded is then known without asking.
        return {
            "enable_lora": True,
            "max_loras": settings.max_loras,
            "max_cpu_loras": settings.max_loras,
            "max_lora_rank": settings.max_lora_rank,
        }

    def _generation_arguments(self) -> dict[str, Any]:
        events, replay = self.event_endpoints
        return {
            "enable_prefix_caching": True,
            "prefix_caching_hash_algo": "sha256_cbor",
            "scheduling_policy": "priority",
            "kv_events_config": {
                "enable_kv_cache_events": True,
                "endpoint": events,
                "replay_endpoint": replay,
            },
            "structured_outputs_config": {
                "backend": "xgrammar",
                "disable_any_whitespace": True,
                "reasoning_parser": self._settings.reasoning_parser,  # a constraint holds after it
            },
        }

    def _sizes(self, *, is_cpu: bool) -> dict[str, int]:
        settings = self._settings
        sizes = {
            "block_size": settings.block_size or (_CPU_BLOCK_SIZE if is_cpu else 0),
            "kv_cache_memory_bytes": settings.kv_cache_bytes
            or (_CPU_KV_CACHE_BYTES if is_cpu else 0),
            "max_num_seqs": settings.max_running or (_CPU_MAX_RUNNING if is_cpu else 0),
        }
        return {name: size for name, size in sizes.items() if size}

    def _tether_children(self) -> None:
        """Have multiprocessing start its children so that the kernel ends them with us."""
        # The tracker outlives us on purpose: it cleans up behind a process that was killed.
        multiprocessing.resource_tracker.ensure_running()
        launcher = self._directory / "python"
        launcher.write_text(tether.launcher(sys.executable, os.getpid()))
        launcher.chmod(0o700)
        multiprocessing.set_executable(str(launcher))


def set_environment(env: "os._Environ[str]", *, is_cpu: bool) -> None:
    """What vLLM reads from the environment; what the operator set stays."""
    env.setdefault("VLLM_NO_USAGE_STATS", "1")
    env.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    # Whole digests: 64 bits of them would be an identity only most of the time.
    env["VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES"] = "0"
    if is_cpu:
        # The model runs inside the engine process: one process less, half the start-up.
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        env.setdefault("OMP_NUM_THREADS", "1")
        # In whole GiB, and it would override kv_cache_memory_bytes.
        env.pop("VLLM_CPU_KVCACHE_SPACE", None)
