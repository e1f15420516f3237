"""Generates gen/ from protos/ before anything is packaged: no generated code is in git."""

import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup

HERE = Path(__file__).parent
PROTOS, GEN = HERE / "protos", HERE / "gen"
BIN = Path(sys.executable).parent
STUB_PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


def generate() -> None:
    """Write the messages and stubs; type stubs too where their plugins are installed."""
    from grpc_tools import protoc

    GEN.mkdir(exist_ok=True)
    stubs = [plugin for plugin in STUB_PLUGINS if (BIN / plugin).exists()]
    code = protoc.main(
        [
            "protoc",
            f"-I{PROTOS}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--python_out={GEN}",
            f"--grpc_python_out={GEN}",
            *(f"--plugin={plugin}={BIN / plugin}" for plugin in stubs),
            *(f"--{plugin.removeprefix('protoc-gen-')}_out=quiet:{GEN}" for plugin in stubs),
            *map(str, sorted(PROTOS.rglob("*.proto"))),
        ]
    )
    if code != 0:
        raise SystemExit(f"protoc ended with code {code}")


def is_stale() -> bool:
    """Whether a proto is newer than what was generated, or nothing was."""
    generated = [file.stat().st_mtime for file in GEN.rglob("*_pb2.py")]
    protos = [file.stat().st_mtime for file in PROTOS.rglob("*.proto")]
    return len(generated) < len(protos) or min(generated) < max(protos)


class Generate(Command):
    """`python setup.py generate`: gen/ afresh, without what deleted protos left there."""

    description = "generate gen/ from protos/"
    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        shutil.rmtree(GEN, ignore_errors=True)
        generate()


# The packages are looked for before any command runs, so gen/ has to be there now.
if is_stale():
    generate()

setup(cmdclass={"generate": Generate})
