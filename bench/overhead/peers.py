"""The peers, each in front of simulated engines of one pace."""

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from bench.overhead.children import (
    HOST,
    ROOT,
    free_port,
    started,
    until_answers,
    until_listens,
)
from bench.overhead.gateway import ENGINES, Gateway, Place, until_chats, url_of
from bench.overhead.workload import MODEL

CACHE_AWARE = ("--policy", "cache_aware")
KILLED_S = 0.5
"""Nobody is served any more, so peers and engines need no long goodbye."""


@contextmanager
def direct(place: Place) -> Iterator[Gateway]:
    """No gateway: one engine alone."""
    with _openai_engines(place, 1) as [url]:
        yield Gateway(url)


@contextmanager
def smg_http(place: Place) -> Iterator[Gateway]:
    """smg that relays HTTP."""
    with _openai_engines(place, ENGINES) as urls, _smg(place, urls) as gateway:
        yield gateway


@contextmanager
def smg_grpc(place: Place) -> Iterator[Gateway]:
    """smg that tokenizes, and speaks gRPC to its engines."""
    model = ["--model-path", str(place.tools.model)]
    with _smg_engines(place) as urls, _smg(place, urls, *model) as gateway:
        yield gateway


@contextmanager
def vllm_router(place: Place) -> Iterator[Gateway]:
    """vLLM's router, which relays HTTP."""
    with _openai_engines(place, ENGINES) as urls:
        flags = ["--worker-urls", *urls, *CACHE_AWARE, "--log-level", "warning"]
        with _peer(place, "vllm-router", *flags) as gateway:
            yield gateway


@contextmanager
def litellm(place: Place) -> Iterator[Gateway]:
    """LiteLLM's proxy, which relays HTTP in Python."""
    with _openai_engines(place, ENGINES) as urls:
        port, settings = free_port(), place.home / "litellm.json"
        settings.write_text(json.dumps({"model_list": [_litellm_model(url) for url in urls]}))
        command = [str(place.tools.litellm / "bin" / "litellm"), "--config", str(settings)]
        # It wants a database to keep keys in, or to be told that none is needed.
        env = {
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the internet for prices
        }
        log = place.home / "gateway.log"
        with started([*command, "--host", HOST, "--port", str(port)], log, env, KILLED_S) as child:
            yield until_chats(port, child)


def _smg(place: Place, urls: list[str], *flags: str) -> AbstractContextManager[Gateway]:
    backend = ["--backend", "vllm", "--log-level", "warn"]
    return _peer(place, "smg", "launch", "--worker-urls", *urls, *CACHE_AWARE, *backend, *flags)


@contextmanager
def _peer(place: Place, name: str, *flags: str) -> Iterator[Gateway]:
    port, metrics = free_port(), free_port()
    listen = ["--host", HOST, "--port", str(port), "--prometheus-port", str(metrics)]
    command = [str(place.tools.peers / "bin" / name), *flags, *listen]
    with started(command, place.home / "gateway.log", end_s=KILLED_S) as child:
        yield until_chats(port, child)


@contextmanager
def _openai_engines(place: Place, count: int) -> Iterator[list[str]]:
    with ExitStack() as stack:
        urls = []
        for number in range(count):
            port = free_port()
            module = ["-m", "bench.overhead.openai_engine", str(port), place.pace_flag]
            log = place.home / f"engine-{number}.log"
            engine = stack.enter_context(started([sys.executable, *module], log, end_s=KILLED_S))
            urls.append(url_of(port))
            until_answers(f"{urls[-1]}/v1/models", engine)
        yield urls


@contextmanager
def _smg_engines(place: Place) -> Iterator[list[str]]:
    python, model = str(place.tools.peers / "bin" / "python"), str(place.tools.model)
    with ExitStack() as stack:
        urls = []
        for number in range(ENGINES):
            port = free_port()
            module = ["-m", "bench.overhead.smg_engine", str(port), model, place.pace_flag]
            log = place.home / f"engine-{number}.log"
            env = {"PYTHONPATH": str(ROOT)}
            engine = stack.enter_context(started([python, *module], log, env, KILLED_S))
            until_listens(port, engine)  # smg asks only every half a minute
            urls.append(f"grpc://{HOST}:{port}")
        yield urls


def _litellm_model(url: str) -> dict[str, object]:
    where = {"model": f"hosted_vllm/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}
    return {"model_name": MODEL, "litellm_params": where}
