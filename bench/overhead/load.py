"""Loads an OpenAI-compatible endpoint; one line of JSON says what the answers sum up to.

`python -m bench.overhead.load --url http://127.0.0.1:8000 --at-once 64 --requests 512`
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from urllib.parse import urlsplit

import uvloop

from bench.overhead.connection import Connection, post
from bench.overhead.figures import Answer, sum_up
from bench.overhead.workload import Load, arrivals_s, talks

PATIENCE_S = 120.0
"""An answer that takes longer is a failure."""


class Caller:
    """Asks a load's conversations, over connections that are kept."""

    def __init__(self, url: str, load: Load) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = parts.hostname, parts.port
        self._load = load
        # Made before the clock starts.
        self._talks = [[post(*self._address, body) for body in talk] for talk in talks(load)]
        self._free: list[Connection] = []
        self.answers: list[Answer] = []

    async def ask_all(self) -> float:
        """The seconds that it took."""
        await self._connect_all()
        begun_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            if self._load.at_once:
                waiting = iter(self._talks)
                for _ in range(self._load.at_once):
                    group.create_task(self._ask_in_turn(waiting))
            else:
                for at_s, talk in zip(arrivals_s(self._load), self._talks, strict=True):
                    await asyncio.sleep(begun_s + at_s - time.perf_counter())
                    group.create_task(self._ask(talk))
        return time.perf_counter() - begun_s

    def close(self) -> None:
        """Close the connections."""
        for connection in self._free:
            connection.close()

    async def _connect_all(self) -> None:
        for _ in range(min(self._load.at_once, len(self._talks))):
            self._free.append(await Connection.to(*self._address))

    async def _ask_in_turn(self, waiting: Iterator[list[bytes]]) -> None:
        for talk in waiting:
            await self._ask(talk)

    async def _ask(self, talk: list[bytes]) -> None:
        for request in talk:
            self.answers.append(await self._answer(request))

    async def _answer(self, request: bytes) -> Answer:
        try:
            connection = await self._connection()
        except OSError as error:
            return Answer(failure=f"no connection: {error.strerror}")
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await connection.ask(request, self._load.max_tokens)
        except TimeoutError:
            connection.close()
            return Answer(failure=f"no answer in {PATIENCE_S:g} s")
        self._free.append(connection)
        return answer

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        return await Connection.to(*self._address)


async def loaded(url: str, load: Load) -> dict[str, float]:
    """The figures of a load."""
    caller = Caller(url, load)
    cpu_before_s = time.process_time()
    try:
        seconds = await caller.ask_all()
    finally:
        caller.close()
    for failure, count in Counter(each.failure for each in caller.answers).items():
        if failure:
            print(f"{count} failed: {failure}", file=sys.stderr)
    return sum_up(caller.answers, seconds, time.process_time() - cpu_before_s)


def flags(load: Load) -> list[str]:
    """The command line that makes this load."""
    made = []
    for each in fields(Load):
        value, flag = getattr(load, each.name), each.name.replace("_", "-")
        if each.type is bool:
            made.append(f"--{'' if value else 'no-'}{flag}")
        else:
            made.append(f"--{flag}={value}")
    return made


def read_load(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[str, Load]:
    """The URL and the load of a command line."""
    parser.add_argument("--url", required=True)
    for each in fields(Load):
        flag = f"--{each.name.replace('_', '-')}"
        if each.type is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=each.default)
        else:
            assert isinstance(each.type, type)
            parser.add_argument(flag, type=each.type, default=each.default)
    given = vars(parser.parse_args(arguments))
    return given.pop("url"), Load(**given)


if __name__ == "__main__":
    described = argparse.ArgumentParser(prog="python -m bench.overhead.load", description=__doc__)
    print(json.dumps(uvloop.run(loaded(*read_load(described, sys.argv[1:])))))
