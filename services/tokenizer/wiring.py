"""Puts the service together and runs it until told to stop."""

import asyncio
import os

import prometheus_client
from structlog.stdlib import BoundLogger

from headway.tokenizer.v1 import tokenizer_pb2_grpc as rpc
from observability.telemetry import start_telemetry
from services.serving import ListenError, grpc_server, stop_signal
from services.tokenizer.batch import Encodings
from services.tokenizer.config import Config
from services.tokenizer.loading import load_models
from services.tokenizer.metrics import Metrics
from services.tokenizer.server import SERVICE, TokenizerServer
from services.tokenizer.threads import Threads


async def main(config: Config, logger: BoundLogger) -> None:
    """Serve until told to stop. Raises LoadError or ListenError when it cannot begin."""
    stopping = asyncio.create_task(stop_signal())
    telemetry = start_telemetry("tokenizer", os.environ)
    metrics = Metrics(prometheus_client.REGISTRY)
    models = await asyncio.to_thread(load_models, config, logger)
    metrics.show(models)
    _serve_metrics(config.metrics_listen)
    with Threads(config.threads or _cores()) as threads:
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
