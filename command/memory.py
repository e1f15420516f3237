"""Whether the machine has the memory for a system, before anything starts."""

from pathlib import Path

import psutil

from command.errors import CommandError
from command.options import Options
from command.plan import Machine, Model

GB = 1e9

# Measured with vLLM 0.32 on the CPU: interpreter, torch and vLLM in two processes.
_VLLM_GB = 1.7
_CACHE_GB = 0.4  # KV cache and activations
_SIM_GB = 0.15
_OTHERS_GB = 0.8  # tokenizer, scheduler, edge and the command together


def needed_gb(options: Options, chat: Model, embedding: Model | None, machine: Machine) -> float:
    """What the processes take in this machine's own memory."""
    chat_gb = _SIM_GB if options.engine == "sim" else _worker_gb(chat, machine)
    embedding_gb = 0.0 if embedding is None else _worker_gb(embedding, machine)
    return _OTHERS_GB + options.workers * chat_gb + options.embedding_workers * embedding_gb


def _worker_gb(model: Model, machine: Machine) -> float:
    if machine.gpus:
        return _VLLM_GB
    # Weights are stored in 16 bits mostly, and computed with in 32.
    files = Path(model.path).glob("*.safetensors")
    return _VLLM_GB + _CACHE_GB + 2 * sum(file.stat().st_size for file in files) / GB


def require_memory(need_gb: float) -> None:
    """Raise CommandError when less than `need_gb` is available."""
    free_gb = psutil.virtual_memory().available / GB
    if free_gb < need_gb:
        raise CommandError(
            f"too little memory: this needs about {need_gb:.1f} GB and {free_gb:.1f} GB are "
            "available; use fewer --workers, --embedding-workers 0, or --engine sim"
        )
