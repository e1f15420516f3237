"""What tests of every room share: the models, and whole systems."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from command import models
from tests.collector import Collector, collecting
from tests.system import System, system

# How long an example takes is the machine's affair; the whole test has a time limit.
settings.register_profile("headway", deadline=None)
settings.load_profile("headway")


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """SmolLM2-135M-Instruct: weights, tokenizer, chat template."""
    return models.demo_model()


@pytest.fixture(scope="session")
def embedding_model() -> Path:
    """all-MiniLM-L6-v2."""
    return models.embedding_model()


@pytest.fixture(scope="session")
def sim_system(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything but the engine is real; for tests that leave it as they found it."""
    with system(tmp_path_factory.mktemp("sim"), "--engine", "sim") as running:
        yield running


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """A real OTLP receiver."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="session")
def vllm_system(
    demo_model: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Everything is real, embeddings and traces too; for tests that leave it as they found it."""
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with system(tmp_path_factory.mktemp("vllm"), env=traced) as running:
        yield running
