"""Starts the tokenizer: `python -m services.tokenizer`."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import prometheus_client
import uvloop
from structlog.stdlib import BoundLogger

from headway.tokenizer.v1 import tokenizer_pb2_grpc as rpc
from observability.telemetry import start_logs, start_telemetry
from services.serving import ListenError, grpc_server, stop_signal
from services.settings import SettingError, from_env
from services.tokenizer.batch import Encodings
from services.tokenizer.config import Config
from services.tokenizer.loading import LoadError, load_models
from services.tokenizer.metrics import Metrics
from services.tokenizer.server import SERVICE, TokenizerServer


async def main(config: Config, logger: BoundLogger) -> None:
    """Serve until told to stop."""
    stopping = asyncio.create_task(stop_signal())
    telemetry = start_telemetry("tokenizer", os.environ)
    metrics = Metrics(prometheus_client.REGISTRY)
    models = await asyncio.to_thread(load_models, config, logger)
    metrics.show(models)
    _serve_metrics(config.metrics_listen)
    with ThreadPoolExecutor(config.threads or _cores(), "encode") as threads:
        tokenizer = TokenizerServer(Encodings(models, metrics, telemetry), threads)
        async with grpc_server(
            config.listen,
            SERVICE,
            lambda server: rpc.add_TokenizerServiceServicer_to_server(tokenizer, server),
            config.drain_s,
        ) as (health, port):
            await health.set_serving(True)
            logger.info("serving", listen=config.listen, port=port)
            await stopping
            await health.set_serving(False)
            tokenizer.drain()
    telemetry.close()
    logger.info("stopped")


def _serve_metrics(listen: str) -> None:
    if not listen:
        return
    host, _, port = listen.rpartition(":")
    try:
        prometheus_client.start_http_server(int(port), host.strip("[]"))
    except OSError as error:
        raise ListenError(
            f"TOKENIZER_METRICS_LISTEN: cannot listen on {listen}: {error}"
        ) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def run() -> int:
    """Read the settings and serve; the result is the exit code."""
    try:
        config = from_env(Config, "TOKENIZER", os.environ)
        uvloop.run(main(config, start_logs("tokenizer")))
    except (SettingError, LoadError, ListenError) as error:
        print(f"tokenizer: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run())
