import pytest

from services.settings import SettingError, from_env
from services.tokenizer.config import Config, ModelSource


def settings(**values: str) -> Config:
    return from_env(Config, "TOKENIZER", {"TOKENIZER_MODELS": "m=/m", **values})


def test_models_have_names_and_aliases() -> None:
    config = Config(models="smollm2|SmolLM2-135M-Instruct=/a/b; minilm = /c=d ;")
    assert config.sources == (
        ModelSource("smollm2", ("SmolLM2-135M-Instruct",), "/a/b"),
        ModelSource("minilm", (), "/c=d"),
    )


def test_models_are_required() -> None:
    with pytest.raises(SettingError, match="TOKENIZER_MODELS must be set"):
        from_env(Config, "TOKENIZER", {})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("TOKENIZER_MODELS", "", id="no-model"),
        pytest.param("TOKENIZER_MODELS", "smollm2", id="no-directory"),
        pytest.param("TOKENIZER_MODELS", "=/a", id="no-name"),
        pytest.param("TOKENIZER_MODELS", "a||b=/a", id="an-empty-alias"),
        pytest.param("TOKENIZER_MODELS", "a=/a;b|a=/b", id="a-name-twice"),
        pytest.param("TOKENIZER_LISTEN", "localhost", id="no-port"),
        pytest.param("TOKENIZER_METRICS_LISTEN", "127.0.0.1:99999", id="no-such-port"),
        pytest.param("TOKENIZER_BLOCK_SIZE", "0", id="empty-blocks"),
        pytest.param("TOKENIZER_THREADS", "-1", id="fewer-than-no-threads"),
        pytest.param("TOKENIZER_SEGMENT_CACHE_BYTES", "-1", id="a-cache-below-nothing"),
        pytest.param("TOKENIZER_DRAIN_S", "nan", id="a-time-that-is-no-number"),
    ],
)
def test_a_wrong_setting_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingError, match=variable):
        settings(**{variable: value})
