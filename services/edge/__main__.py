"""Runs the edge."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import uvloop
from structlog.stdlib import BoundLogger

from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from observability.telemetry import start_logs, start_telemetry
from services.edge.accounts import Accounts
from services.edge.channels import Channels
from services.edge.config import Config
from services.edge.encoding import Encoders
from services.edge.fleet import Fleet
from services.edge.listening import allow_connections, serving
from services.edge.owners import OwnerDied, owned
from services.edge.pipe import Pipes
from services.edge.placing import Placer
from services.edge.relay import Hops
from services.edge.scraping import scrape_of
from services.edge.server import Admin, Edge
from services.edge.tenants import Tenants, read_tenants
from services.edge.visits import Visits
from services.serving import CHANNEL_OPTIONS, ListenError, stop_signal
from services.settings import SettingError, from_env


async def main(config: Config) -> None:
    """Serve until told to stop."""
    log = start_logs("edge")
    telemetry = start_telemetry("edge", os.environ)
    accounts = Accounts()
    tenants = _tenants(config)
    connections = allow_connections()
    async with hops_of(config, log) as hops:
        visits = Visits(telemetry, accounts, log)
        edge = Edge(config, hops, tenants, visits, scrape_of(os.environ))
        async with (
            serving(Admin(edge, accounts), config.metrics_listen, config.drain_s),
            serving(edge, config.listen, config.drain_s, config.reuse_port) as port,
        ):
            log.info("listening", port=port, connections=connections)
            try:
                await stop_signal()
            finally:
                edge.draining = True
                log.info("draining")
    telemetry.close()


def _tenants(config: Config) -> Tenants:
    if not config.tenants:
        return Tenants({})
    try:
        return read_tenants(Path(config.tenants).read_bytes())
    except OSError as error:
        raise SettingError(f"EDGE_TENANTS: {error}") from error
    except ValueError as error:
        raise SettingError(str(error)) from error


@asynccontextmanager
async def hops_of(config: Config, log: BoundLogger) -> AsyncIterator[Hops]:
    """The streams to the other services, each with the task that owns it."""
    async with grpc.aio.insecure_channel(config.scheduler, options=CHANNEL_OPTIONS) as channel:
        stub: rpc.SchedulerServiceAsyncStub = rpc.SchedulerServiceStub(channel)
        fleet, pipes, encoders = Fleet(stub), Pipes(config.pipe_idle_s), Encoders(config.tokenizers)
        channels, placer = Channels(), Placer(stub, fleet)

        def keep() -> None:
            addresses = {worker.address for worker in fleet.workers}
            pipes.keep(addresses)
            channels.keep(addresses)

        fleet.changed = keep
        owners = [
            ("the fleet", fleet.run()),
            ("the scheduler's stream", placer.conversation.run()),
            *(("a tokenizer's stream", each.conversation.run()) for each in encoders.replicas),
        ]
        try:
            async with owned(owners, log):
                try:
                    yield Hops(encoders, placer, pipes, channels, fleet, config.resume_limit)
                finally:
                    await pipes.close()
                    await channels.close()
        finally:
            for replica in encoders.replicas:
                await replica.close()


if __name__ == "__main__":
    try:
        uvloop.run(main(from_env(Config, "EDGE", os.environ)))
    except (SettingError, ListenError) as error:
        print(f"edge: {error}", file=sys.stderr)
        sys.exit(2)
    except OwnerDied as error:
        print(f"edge: {error}", file=sys.stderr)
        sys.exit(1)
