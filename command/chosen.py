"""Which model `up` serves: the demo, a directory, or an id in the local Hugging Face cache."""

import json
from pathlib import Path

from command import models
from command.errors import CommandError
from command.plan import Model
from command.progress import Progress

# SmolLM2's vocabulary, by which the demo model is known under whatever folder name.
_DEMO_VOCABULARY = 49_152
_DEMO_TOKEN, _DEMO_TOKEN_ID = "<|im_start|>", 1

# They separate names and models in the services' settings.
_RESERVED = ",;|="


def chat_model(wanted: str, name: str, engine: str, progress: Progress) -> Model:
    """The model for the chat workers. Raises CommandError when it is none."""
    directory, own_names = _locate(wanted, progress)
    _require_model(directory, engine)
    demo = models.DEMO_NAMES if is_demo(directory) else ()
    names = tuple(dict.fromkeys(each for each in (name, *demo, *own_names) if each))
    for each in names:
        if set(each) & set(_RESERVED):
            raise CommandError(
                f"the model name {each!r} holds one of {_RESERVED}; use --model-name"
            )
    return Model(str(directory), names)


def embedding_model() -> Model:
    """The model for the embedding workers."""
    return Model(str(models.embedding_model()), models.EMBEDDING_NAMES)


def _locate(wanted: str, progress: Progress) -> tuple[Path, tuple[str, ...]]:
    if not wanted:
        with progress.waiting("preparing the demo model (once, about half a minute)"):
            return models.demo_model(), ()
    path = Path(wanted)
    if path.is_dir():
        return path.resolve(), (path.resolve().name,)
    if path.exists() or path.is_absolute() or wanted.count("/") > 1:
        raise CommandError(f"--model {wanted} is no directory")
    return _cached(wanted), (wanted, wanted.rpartition("/")[2])


def _cached(wanted: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(wanted, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise CommandError(
            f"--model {wanted} is neither a directory nor in the local Hugging Face cache"
        ) from error


def _require_model(directory: Path, engine: str) -> None:
    # The simulated engine has no weights: the vocabulary is all it needs.
    needed = ["tokenizer.json"] if engine == "sim" else ["tokenizer.json", "config.json"]
    for file in needed:
        if not (directory / file).is_file():
            raise CommandError(f"--model {directory} is no model directory: it has no {file}")


def is_demo(directory: Path) -> bool:
    """Whether the vocabulary is the demo model's."""
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"].get("vocab", {})
    known = isinstance(vocabulary, dict) and len(vocabulary) == _DEMO_VOCABULARY
    return known and vocabulary.get(_DEMO_TOKEN) == _DEMO_TOKEN_ID
