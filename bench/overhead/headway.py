"""Headway, started as its users start it; its workers are engines, the rest is charged."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from bench.overhead.children import ROOT, free_port, started
from bench.overhead.gateway import ENGINES, Gateway, Place, until_chats
from bench.overhead.workload import MODEL

CHARGED = ("edge", "scheduler", "tokenizer")


@contextmanager
def headway(place: Place) -> Iterator[Gateway]:
    """Simulated workers."""
    simulated = ["--engine", "sim", "--sim", place.pace_flag, "--workers", str(ENGINES)]
    with up(place, *simulated, "--edges", str(place.edges)) as gateway:
        yield gateway


@contextmanager
def two_edges(place: Place) -> Iterator[Gateway]:
    """Two edges that share the port."""
    with headway(replace(place, edges=2)) as gateway:
        yield gateway


@contextmanager
def up(place: Place, *flags: str) -> Iterator[Gateway]:
    """`headway up` with these flags, on the demo model."""
    port, env = free_port(), {"HEADWAY_STATE": str(place.home / "headway")}
    model = ["--model", str(place.tools.model), "--model-name", MODEL, "--embedding-workers", "0"]
    command = [sys.executable, "-m", "command", "up", "--port", str(port), *model, *flags]
    with started(command, place.home / "gateway.log", env) as child:
        gateway = until_chats(port, child)
        yield replace(gateway, services=_charged(env))


def _charged(env: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    command = [sys.executable, "-m", "command", "ps", "--json"]
    whole = {**os.environ, **env}
    listed = subprocess.run(command, cwd=ROOT, env=whole, capture_output=True, check=True)
    rows = json.loads(listed.stdout)
    return {
        service: tuple(row["pid"] for row in rows if row["service"] == service)
        for service in CHARGED
    }
