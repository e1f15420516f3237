"""Each service runs with what its extra installs, so that its image is small and complete."""

import subprocess
import sys
from importlib.metadata import distribution, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAVY = {"torch", "vllm", "transformers", "tokenizers", "fastokens", "numpy"}
ALLOWED_HEAVY = {
    "edge": set[str](),
    "scheduler": {"numpy"},
    "tokenizer": HEAVY - {"torch", "vllm"},
    # The simulated worker; the real engine is imported when it is started.
    "worker": {"tokenizers", "numpy"},
}

# Imports a service as if the modules named on the command line were not installed.
IMPORT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
__import__(f"services.{sys.argv[1]}.__main__")
print(*{module.partition(".")[0] for module in sys.modules})
"""


def installed_by(extra: str) -> set[str]:
    """The distributions that `pip install headway[extra]` installs."""
    found: set[str] = set()
    waiting = [("headway", frozenset({"", extra}))]
    while waiting:
        name, extras = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [
                (canonicalize_name(need.name), frozenset({"", *need.extras}))
                for need in map(Requirement, distribution(name).requires or [])
                if any(need.marker is None or need.marker.evaluate({"extra": e}) for e in extras)
            ]
    return found


@pytest.mark.parametrize("room", sorted(ALLOWED_HEAVY))
def test_a_service_needs_only_what_its_extra_installs(room: str) -> None:
    installed = installed_by(room)
    missing = [
        module
        for module, owners in packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & installed
    ]
    command = [sys.executable, "-c", IMPORT, room, *missing]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) & HEAVY <= ALLOWED_HEAVY[room]
