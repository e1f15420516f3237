import json
from pathlib import Path

import pytest

from command import chosen as choosing
from command import models
from command.chosen import chat_model, is_demo
from command.errors import CommandError
from command.plan import Model
from command.progress import Progress

PROGRESS = Progress()


def chosen(wanted: Path | str, name: str = "", engine: str = "sim") -> tuple[str, ...]:
    return chat_model(str(wanted), name, engine, PROGRESS).names


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A model directory with a vocabulary of its own, and no weights."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    (directory / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    return directory


def test_the_demo_is_the_default(demo_model: Path) -> None:
    model = chat_model("", "", "vllm", PROGRESS)
    assert model.path == str(demo_model)
    assert model.names == models.DEMO_NAMES


def test_a_directory_is_served_under_its_own_name(tiny: Path) -> None:
    assert chosen(tiny) == ("tiny",)


def test_a_given_name_is_the_main_one(tiny: Path) -> None:
    assert chosen(tiny, name="mine") == ("mine", "tiny")


def test_the_demo_is_known_by_its_vocabulary_in_any_folder(
    demo_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").symlink_to(demo_model / "tokenizer.json")
    assert is_demo(tmp_path / "model")
    assert chosen(tmp_path / "model") == (*models.DEMO_NAMES, "model")


@pytest.mark.parametrize("engine", ["sim", "vllm"])
def test_a_folder_without_a_model_is_refused(tmp_path: Path, engine: str) -> None:
    with pytest.raises(CommandError, match=r"is no model directory: it has no tokenizer\.json"):
        chosen(tmp_path, engine=engine)


def test_vllm_needs_more_than_a_vocabulary(tiny: Path) -> None:
    with pytest.raises(CommandError, match=r"it has no config\.json"):
        chosen(tiny, engine="vllm")


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        pytest.param("/no/such/place", "is no directory", id="path"),
        pytest.param("no-such-model", "nor in the local Hugging Face cache", id="name"),
        pytest.param("nobody/no-such-model", "nor in the local Hugging Face cache", id="id"),
    ],
)
def test_a_missing_model_is_one_line(wanted: str, says: str) -> None:
    with pytest.raises(CommandError, match=says):
        chosen(wanted)


def test_a_name_that_would_break_the_settings_is_refused(tiny: Path) -> None:
    with pytest.raises(CommandError, match="use --model-name"):
        chosen(tiny, name="a;b")


def test_embeddings_come_from_the_packaged_model(embedding_model: Path) -> None:
    assert choosing.embedding_model() == Model(str(embedding_model), models.EMBEDDING_NAMES)
