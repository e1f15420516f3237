"""What tests of every room share: the models."""

from pathlib import Path

import pytest

from command import models


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """SmolLM2-135M-Instruct: weights, tokenizer, chat template."""
    return models.demo_model()


@pytest.fixture(scope="session")
def embedding_model() -> Path:
    """all-MiniLM-L6-v2."""
    return models.embedding_model()
