"""Policies on real vLLM: conversations with shared system prompts, as rows of markdown.

`python -m bench.vllm_routing [--policies A,B] [--repeat N] [--conversations N] [--turns N]`

Starts `headway up` with two workers afresh for each policy. Hits are from vLLM's own counters.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

from bench.asking import Answer, Counted, chat, client, counted
from command.simulation.results import percentile
from tests.system import System, system

WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world")
ANSWER_TOKENS = 24
THINKING_S = 0.3
REPORTED_S = 1.0
"""A worker's counters have reached the scheduler within this."""

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation: its system prompt, and what its user says."""

    system: str
    questions: Sequence[str]
    thinking_s: Sequence[float]


@dataclass(slots=True)
class Row:
    """What one run of one policy came to."""

    policy: str
    answers: list[Answer] = field(default_factory=list)
    asked_tokens: int = 0
    found_tokens: int = 0
    wall_s: float = 0.0


def main() -> int:
    """Print the rows."""
    arguments = _arguments()
    talks = _talks(arguments)
    print(
        f"{len(talks)} conversations of {arguments.turns} turns, {arguments.at_once} at once,"
        f" {arguments.systems} system prompts of about {arguments.system_words} words,"
        f" {ANSWER_TOKENS} tokens an answer; 2 workers; seed {arguments.seed}\n"
    )
    print("| policy | prompt tokens | hit rate | TTFT mean | p50 | p90 | E2E mean | p90 | wall |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for _ in range(arguments.repeat):
        for policy in arguments.policies.split(","):
            _run(policy, talks, arguments.at_once)
    return 0


def _run(policy: str, talks: Sequence[Talk], at_once: int) -> None:
    flags = ("--workers", "2", "--embedding-workers", "0", "--policy", policy)
    try:
        with tempfile.TemporaryDirectory() as home, system(Path(home), *flags) as running:
            print(_cells(asyncio.run(_serve(policy, running, talks, at_once))), flush=True)
    except subprocess.TimeoutExpired as error:  # a busy machine: what was measured still counts
        print(f"bench.vllm_routing: {error}", file=sys.stderr)


async def _serve(policy: str, running: System, talks: Sequence[Talk], at_once: int) -> Row:
    row = Row(policy)
    scheduler = running.address("scheduler")
    before = counted(scheduler)
    waiting = iter(talks)
    begun_s = time.perf_counter()
    async with client(running.url) as http, asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(_talk_all(http, waiting, row))
    row.wall_s = time.perf_counter() - begun_s
    await asyncio.sleep(REPORTED_S)
    _count(row, before, counted(scheduler))
    return row


async def _talk_all(http: httpx.AsyncClient, waiting: Iterator[Talk], row: Row) -> None:
    for talk in waiting:
        messages: Messages = [{"role": "system", "content": talk.system}]
        for question, thinking_s in zip(talk.questions, talk.thinking_s, strict=True):
            messages.append({"role": "user", "content": question})
            answer = await chat(http, messages, ANSWER_TOKENS)
            assert answer.ttft_s is not None, f"answered {answer.status}"
            row.answers.append(answer)
            messages.append({"role": "assistant", "content": answer.text})
            await asyncio.sleep(thinking_s)


def _count(row: Row, before: dict[str, Counted], after: dict[str, Counted]) -> None:
    row.asked_tokens = sum(after[each].asked - before[each].asked for each in after)
    row.found_tokens = sum(after[each].found - before[each].found for each in after)


def _cells(row: Row) -> str:
    ttfts = sorted(each.ttft_s for each in row.answers if each.ttft_s is not None)
    e2es = sorted(each.e2e_s for each in row.answers)
    times = (
        statistics.mean(ttfts),
        percentile(ttfts, 50),
        percentile(ttfts, 90),
        statistics.mean(e2es),
        percentile(e2es, 90),
    )
    seconds = " | ".join(f"{each:.3f} s" for each in times)
    hits = row.found_tokens / row.asked_tokens
    return f"| {row.policy} | {row.asked_tokens:,} | {hits:.1%} | {seconds} | {row.wall_s:.1f} s |"


def _talks(arguments: argparse.Namespace) -> list[Talk]:
    chance = Random(arguments.seed)
    systems = [_text(chance, arguments.system_words) for _ in range(arguments.systems)]
    return [
        Talk(
            chance.choice(systems),
            [_text(chance, chance.randrange(20, 60)) for _ in range(arguments.turns)],
            [chance.expovariate(1 / THINKING_S) for _ in range(arguments.turns)],
        )
        for _ in range(arguments.conversations)
    ]


def _text(chance: Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.vllm_routing", description=__doc__)
    parser.add_argument("--policies", default="round_robin,predicted", metavar="A,…")
    parser.add_argument("--repeat", type=int, default=1, metavar="N")
    parser.add_argument("--conversations", type=int, default=24, metavar="N")
    parser.add_argument("--turns", type=int, default=5, metavar="N")
    parser.add_argument("--at-once", type=int, default=6, metavar="N")
    parser.add_argument("--systems", type=int, default=6, metavar="N")
    parser.add_argument("--system-words", type=int, default=300, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
