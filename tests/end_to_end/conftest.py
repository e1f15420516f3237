"""A client of the system that the tests share."""

from collections.abc import Iterator

import httpx
import pytest

from tests.system import System


@pytest.fixture(scope="module")
def client(vllm_system: System) -> Iterator[httpx.Client]:
    """Asks the shared system on real vLLM; a file that asks another has a client of its own."""
    with httpx.Client(base_url=vllm_system.url, timeout=60) as opened:
        yield opened
