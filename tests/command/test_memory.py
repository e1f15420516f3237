from pathlib import Path

import pytest

from command import memory
from command.errors import CommandError
from command.options import Options
from command.plan import Machine, Model

CPU = Machine(cores=(0, 1))


def test_the_default_system_is_promised_below_10_gb(
    demo_model: Path, embedding_model: Path
) -> None:
    chat, embedding = Model(str(demo_model), ("a",)), Model(str(embedding_model), ("b",))
    assert 7 < memory.needed_gb(Options(), chat, embedding, CPU) < 10


def test_the_simulator_needs_little(demo_model: Path) -> None:
    options = Options(engine="sim", embedding_workers=0)
    assert memory.needed_gb(options, Model(str(demo_model), ("a",)), None, CPU) < 1.5


def test_too_little_is_said_with_what_to_do() -> None:
    memory.require_memory(0.001)
    with pytest.raises(CommandError, match=r"needs about 1000000\.0 GB .* use fewer --workers"):
        memory.require_memory(1e6)
