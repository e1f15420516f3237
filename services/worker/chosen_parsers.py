"""Which parsers the worker has for its model: those that were set, or that the model suggests."""

import json
from dataclasses import dataclass
from pathlib import Path

import structlog
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from services.settings import SettingError
from services.worker.config import Config
from services.worker.parsers import NoParsers, Parsers
from services.worker.recognizing import reasoning_parser, tool_parser

NONE = "none"

log = structlog.get_logger(service="worker")


@dataclass(frozen=True, slots=True)
class ChosenParsers:
    """The parsers, and vLLM's name of the one for reasoning: the engine needs it too."""

    parsers: Parsers
    reasoning: str = ""


def load_parsers(config: Config) -> ChosenParsers:
    """The model's parsers. Takes seconds for vLLM's. Raises SettingError for those set wrongly."""
    if config.engine == "sim" or config.kind == "embed":
        return ChosenParsers(NoParsers())
    template = _template(config.model)
    known_as = f"{config.model_names[0]} {Path(config.model).name}"
    tools = _named(config.tool_parser, tool_parser(template))
    reasoning = _named(config.reasoning_parser, reasoning_parser(known_as, template))
    if not tools and not reasoning:
        return ChosenParsers(NoParsers())
    return _load(config, tools, reasoning)


def _named(chosen: str, suggested: str) -> str:
    name = chosen or suggested
    return "" if name == NONE else name


def _load(config: Config, tools: str, reasoning: str) -> ChosenParsers:
    # Not at the top: a simulator must start without vLLM.
    from services.worker.vllm_parsing import UnknownParser, VllmParsers

    try:
        parsers = VllmParsers.load(config.model, tools, reasoning)
    except UnknownParser as error:
        if config.tool_parser or config.reasoning_parser:
            message = f"WORKER_TOOL_PARSER or WORKER_REASONING_PARSER: {error}"
            raise SettingError(message) from error
        log.warning("the parsers that the model suggests do not fit it", reason=str(error))
        return ChosenParsers(NoParsers())
    log.info("parsers", tools=tools or NONE, reasoning=reasoning or NONE)
    return ChosenParsers(parsers, reasoning)


def _template(model: str) -> str:
    """The model's chat templates, one behind the other; empty where there is none."""
    named = sorted(Path(model).glob("additional_chat_templates/*.jinja"))
    files = ["chat_template.jinja", *(str(each.relative_to(model)) for each in named)]
    source = "".join(_read(model, file) for file in files)
    if source:
        return source
    settings = json.loads(_read(model, "tokenizer_config.json") or "{}")
    templates = settings.get("chat_template") or ""
    if isinstance(templates, list):
        return "".join(each["template"] for each in templates)
    return str(templates)


def _read(model: str, name: str) -> str:
    try:
        path = Path(model) / name
        if not Path(model).is_dir():
            path = Path(hf_hub_download(model, name))
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError, EntryNotFoundError):
        return ""
