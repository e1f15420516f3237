"""The model's files on disk, and the engine that the settings ask for."""

import json
from dataclasses import replace
from pathlib import Path

from huggingface_hub import hf_hub_download
from tokenizers import Tokenizer

from services.settings import SettingError
from services.worker.adapter_files import largest_rank
from services.worker.config import Config
from services.worker.engine import Engine
from services.worker.sim_core import SimSettings, read_settings
from services.worker.sim_engine import SimEngine
from services.worker.sim_words import word_ids

MOST_LORAS = 4  # each takes memory in the engine, used or not
CONTEXT_UNKNOWN = 8192  # tokens, for a simulator whose model directory has no config.json


def load_tokenizer(model: str) -> Tokenizer:
    """The model's tokenizer, from its directory or the hub. Raises SettingError."""
    try:
        path = Path(model) / "tokenizer.json"
        if not Path(model).is_dir():
            path = Path(hf_hub_download(model, "tokenizer.json"))
        return Tokenizer.from_buffer(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise SettingError(f"WORKER_MODEL: no tokenizer.json of {model!r}: {reason}") from error


def load_engine(config: Config, tokenizer: Tokenizer, reasoning_parser: str) -> Engine:
    """The engine, not started. Takes seconds for vLLM, which is imported here and not before."""
    if config.engine == "sim":
        return _sim(config, tokenizer)
    return _vllm(config, reasoning_parser)


def _sim(config: Config, tokenizer: Tokenizer) -> Engine:
    return SimEngine(
        sim_settings(config),
        words=word_ids(tokenizer.get_vocab(with_added_tokens=False)),
        vocabulary_size=tokenizer.get_vocab_size(),
        max_model_tokens=config.max_model_len or _context(Path(config.model)),
    )


def sim_settings(config: Config) -> SimSettings:
    """The simulator's settings; the worker's own sizes go first. Raises SettingError."""
    try:
        settings = read_settings(config.sim)
    except ValueError as error:
        raise SettingError(f"WORKER_SIM: {error}") from error
    return replace(
        settings,
        block_size=config.block_size or settings.block_size,
        max_running=config.max_running or settings.max_running,
        max_loras=config.max_loras or settings.max_loras,
    )


def _context(directory: Path) -> int:
    config = directory / "config.json"
    if not config.is_file():
        return CONTEXT_UNKNOWN
    context = json.loads(config.read_text()).get("max_position_embeddings", CONTEXT_UNKNOWN)
    return int(context)


def _vllm(config: Config, reasoning_parser: str) -> Engine:
    adapters = config.adapter_paths
    rank = largest_rank(adapters) if adapters else 0
    # Not at the top: a simulator must start without vLLM, in a tenth of a second.
    from services.worker.vllm_engine import VllmEngine
    from services.worker.vllm_process import EngineSettings

    return VllmEngine(
        EngineSettings(
            model=config.model,
            model_name=config.model_names[0],
            is_embedding=config.kind == "embed",
            reasoning_parser=reasoning_parser,
            dtype=config.dtype,
            block_size=config.block_size,
            max_model_len=config.max_model_len,
            kv_cache_bytes=config.kv_cache_bytes,
            max_running=config.max_running,
            adapters=adapters,
            max_loras=min(config.max_loras or MOST_LORAS, len(adapters)),
            max_lora_rank=rank,
        )
    )
