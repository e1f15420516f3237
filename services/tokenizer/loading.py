"""Models from their directories: the only place in this service that reads files."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateSyntaxError
from structlog.stdlib import BoundLogger
from tokenizers import Tokenizer

from services.settings import SettingError
from services.tokenizer.config import Config, ModelSource
from services.tokenizer.encoder import choose_encoder
from services.tokenizer.hashing import HashChain
from services.tokenizer.models import Model, Models
from services.tokenizer.probes import probes
from services.tokenizer.renaming import rename_special
from services.tokenizer.template import CHATML, CHATML_MARKS, ChatTemplate
from services.tokenizer.vocabulary import Vocabulary


class LoadError(SettingError):
    """A model cannot be loaded. The message is one line for the operator."""


def load_models(config: Config, logger: BoundLogger) -> Models:
    """Read all models. Raises LoadError for the first that cannot be."""
    return Models([load_model(source, config, logger) for source in config.sources])


def load_model(source: ModelSource, config: Config, logger: BoundLogger) -> Model:
    """Read one model and choose its encoder."""
    folder = Path(source.path)
    tokenizer = _tokenizer(folder)
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    choice = choose_encoder(tokenizer, config.segment_cache_bytes, probes(added))
    template = _template(folder, tokenizer)
    # Made here, not when it is first needed: it takes as long as reading the file.
    renamed = rename_special(tokenizer, secrets.token_hex(16)) if template else None
    logger.info(
        "model loaded",
        model=source.name,
        encoder=choice.encoder.name,
        why_not_fastokens=choice.why_not_fast or None,
        has_chat_template=template is not None,
        takes_special_tokens_for_text=renamed is not None,
    )
    vocabulary = Vocabulary(tokenizer, choice.encoder, renamed)
    chain = HashChain(config.block_size, config.hash_cache_bytes)
    return Model(source.name, source.aliases, vocabulary, template, chain)


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise LoadError(f"TOKENIZER_MODELS names {folder}, which has no tokenizer.json")
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    # The library raises Exception itself, for everything.
    except Exception as error:
        raise LoadError(f"{path} is no tokenizer: {error}") from error
    # Files of embedding models cut and pad; how long a prompt may be is the worker's to say.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _template(folder: Path, tokenizer: Tokenizer) -> ChatTemplate | None:
    settings = _json(folder / "tokenizer_config.json")
    sources = _sources(folder, settings)
    if not sources and all(tokenizer.token_to_id(mark) is not None for mark in CHATML_MARKS):
        sources = {"default": CHATML}
    if "default" not in sources:
        return None
    special = _special_tokens({**_json(folder / "special_tokens_map.json"), **settings})
    try:
        return ChatTemplate(sources, special)
    except TemplateSyntaxError as error:
        raise LoadError(f"the chat template in {folder} is not valid: {error.message}") from error


def _sources(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """The templates by name, from where transformers looks for them, in its order."""
    files = {"default": folder / "chat_template.jinja"}
    files |= {file.stem: file for file in folder.glob("additional_chat_templates/*.jinja")}
    written = {
        name: file.read_text(encoding="utf-8") for name, file in files.items() if file.is_file()
    }
    if written:
        return written
    match settings.get("chat_template"):
        case str(source):
            return {"default": source}
        case list(named):
            return {each["name"]: each["template"] for each in named}
        case _:
            return {}


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and its like: variables of every template."""
    extra = settings.get("extra_special_tokens")
    named = {**settings, **extra} if isinstance(extra, dict) else settings
    contents = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in named.items()
        if name.endswith("_token")
    }
    return {name: content for name, content in contents.items() if isinstance(content, str)}


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LoadError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise LoadError(f"{path} is not a JSON object")
    return value
