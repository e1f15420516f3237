import json
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from services.tokenizer.config import Config
from services.tokenizer.loading import LoadError, load_model
from services.tokenizer.models import Model
from services.tokenizer.prompt import Chat, Message

HELLO = Chat((Message("user", "Hi"),))


def load(folder: Path) -> Model:
    config = Config(models=f"m={folder}", segment_cache_bytes=0)
    return load_model(config.sources[0], config, structlog.get_logger())


def rendered(folder: Path) -> object:
    template = load(folder).template
    return template and template.render(HELLO)


@pytest.fixture
def bare(demo_model: Path, tmp_path: Path) -> Path:
    """A directory that holds tokenizer.json alone."""
    (tmp_path / "tokenizer.json").symlink_to(demo_model / "tokenizer.json")
    return tmp_path


def configure(folder: Path, **settings: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_the_choice_of_encoder_is_logged(minilm: Model, embedding_model: Path) -> None:
    with capture_logs() as logs:
        load(embedding_model)
    [line] = logs
    assert line["encoder"] == "tokenizers"
    assert "fastokens cannot read it" in line["why_not_fastokens"]


def test_a_bare_directory_with_chatml_marks_talks_chatml(bare: Path) -> None:
    assert rendered(bare) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_a_model_without_marks_has_no_template(minilm: Model) -> None:
    assert minilm.template is None


def test_a_template_in_the_settings_is_used(bare: Path) -> None:
    configure(
        bare, chat_template="{{ bos_token }}!", bos_token={"content": "<s>"}, add_bos_token=True
    )
    assert rendered(bare) == "<s>!"


def test_named_templates_in_the_settings_are_used(bare: Path) -> None:
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    configure(bare, chat_template=named)
    assert rendered(bare) == "d"


def test_a_template_file_comes_before_the_settings(bare: Path) -> None:
    configure(bare, chat_template="settings", eos_token="</s>")
    (bare / "chat_template.jinja").write_text("file{{ eos_token }}{{ pad_token }}{{ image_token }}")
    (bare / "special_tokens_map.json").write_text('{"eos_token": "old", "pad_token": "<pad>"}')
    assert rendered(bare) == "file</s><pad>"


def test_tokens_with_names_of_their_own_are_variables(bare: Path) -> None:
    configure(bare, chat_template="{{ image_token }}", extra_special_tokens={"image_token": "<i>"})
    assert rendered(bare) == "<i>"


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        pytest.param("chat_template.jinja", "{% if %}", "chat template", id="template"),
        pytest.param("tokenizer_config.json", "{", "is not JSON", id="settings-cut-short"),
        pytest.param("tokenizer_config.json", "[]", "is not a JSON object", id="settings-a-list"),
    ],
)
def test_a_broken_file_stops_the_start(bare: Path, file: str, text: str, says: str) -> None:
    (bare / file).write_text(text)
    with pytest.raises(LoadError, match=says):
        load(bare)


def test_a_directory_without_a_tokenizer_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"TOKENIZER_MODELS .* has no tokenizer.json"):
        load(tmp_path)


def test_a_broken_tokenizer_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(LoadError, match="is no tokenizer"):
        load(tmp_path)
