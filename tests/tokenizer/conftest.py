"""The two demo models, loaded once."""

from pathlib import Path

import pytest
import structlog
from tokenizers import Tokenizer

from services.tokenizer.config import Config
from services.tokenizer.loading import load_models
from services.tokenizer.models import Model, Models

BLOCK_SIZE = 16


@pytest.fixture(scope="session")
def models(demo_model: Path, embedding_model: Path) -> Models:
    config = Config(
        models=f"smollm2|SmolLM2-135M-Instruct={demo_model};minilm={embedding_model}",
        block_size=BLOCK_SIZE,
    )
    return load_models(config, structlog.get_logger())


@pytest.fixture(scope="session")
def smollm2(models: Models) -> Model:
    model = models.find("smollm2")
    assert isinstance(model, Model)
    return model


@pytest.fixture(scope="session")
def minilm(models: Models) -> Model:
    model = models.find("minilm")
    assert isinstance(model, Model)
    return model


@pytest.fixture(scope="session")
def reference(demo_model: Path) -> Tokenizer:
    """SmolLM2's tokenizer as Hugging Face's library reads it."""
    return Tokenizer.from_file(str(demo_model / "tokenizer.json"))
