"""What is measured. A case is one kind of load; its table is of one run."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.overhead import columns
from bench.overhead.columns import Column
from bench.overhead.gateways import (
    DIRECT,
    HEADWAY,
    HEADWAY_VLLM,
    SMG_GRPC,
    TWO_EDGES,
    VLLM_SERVE,
)
from bench.overhead.idle_streams import IdleStreams
from bench.overhead.measuring import AtRest, Measure, UnderLoad, paced
from bench.overhead.turns import AFRESH, COLD, KEPT, Turns
from bench.overhead.workload import Load

ALL = (DIRECT, "smg-http", SMG_GRPC, "vllm-router", "litellm", HEADWAY)
QUICK = (DIRECT, "smg-http", SMG_GRPC, "vllm-router", HEADWAY)
RIVALS = (SMG_GRPC, HEADWAY)
EDGE_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A kind of load, who bears it, and what its table shows."""

    what: str
    subjects: tuple[str, ...]
    measure: Measure
    columns: tuple[Column, ...]
    minutes: float
    """That three repeats take, about."""
    by_load: bool = False
    """A row for each load and a column for each subject, one table a figure."""


def _streamed(at_once: int, requests: int) -> Load:
    return Load(requests=requests, at_once=at_once)


def _short(at_once: int, requests: int) -> Load:
    return Load(requests=requests, at_once=at_once, max_tokens=1, stream=False)


STEP_MS = 20.0
QUICK_STEP_MS = 1.0
REAL_WARM_UP = Load(requests=4, at_once=2, prompt_tokens=50, max_tokens=8, seed=99)

CASES: Mapping[str, Case] = {
    "stream64": Case(
        what="Prompts of 300 tokens, 128 streamed tokens, 64 at once, an engine step every 20 ms.",
        subjects=ALL,
        measure=UnderLoad((_streamed(64, 600),), paced(STEP_MS)),
        columns=columns.STREAMED,
        minutes=14,
    ),
    "stream256": Case(
        what="The same, 256 at once.",
        subjects=QUICK,
        measure=UnderLoad((_streamed(256, 1200),), paced(STEP_MS)),
        columns=columns.STREAMED,
        minutes=6,
    ),
    "short": Case(
        what="Prompts of 300 tokens, one token, not streamed, 64 at once, a step each millisecond.",
        subjects=ALL,
        measure=UnderLoad((_short(64, 3000),), paced(QUICK_STEP_MS)),
        columns=columns.WHOLE,
        minutes=6,
    ),
    "long": Case(
        what="Prompts of 6,000 tokens, one token, not streamed, 16 at once.",
        subjects=QUICK,
        measure=UnderLoad(
            (Load(requests=400, at_once=16, prompt_tokens=6000, max_tokens=1, stream=False),),
            paced(QUICK_STEP_MS),
        ),
        columns=columns.WHOLE,
        minutes=4,
    ),
    "shared": Case(
        what="16 system prompts of 2,000 tokens, each question 20 tokens; one token, not streamed.",
        subjects=RIVALS,
        measure=UnderLoad(
            (
                Load(
                    requests=1500,
                    at_once=64,
                    prompt_tokens=2000,
                    max_tokens=1,
                    stream=False,
                    workload="shared",
                ),
            ),
            paced(QUICK_STEP_MS),
        ),
        columns=columns.WHOLE,
        minutes=2,
    ),
    "chat": Case(
        what="Conversations of 4 turns over 16 system prompts of 300 tokens, Zipf's law;"
        " 64 streamed tokens an answer, 64 conversations at once, a step every 20 ms.",
        subjects=RIVALS,
        measure=UnderLoad(
            (Load(requests=150, at_once=64, max_tokens=64, workload="chat"),), paced(STEP_MS)
        ),
        columns=columns.STREAMED,
        minutes=2,
    ),
    "low": Case(
        what="8 arrivals a second at random, 300 tokens in, 32 streamed, a step every millisecond:"
        " what a gateway adds when it has time. The arrivals are the same for all.",
        subjects=(DIRECT, "smg-http", SMG_GRPC, "litellm", HEADWAY),
        measure=UnderLoad(
            (Load(requests=240, rate_per_s=8.0, max_tokens=32),), paced(QUICK_STEP_MS)
        ),
        columns=columns.AT_LOW_RATE,
        minutes=11,
    ),
    "rest": Case(
        what="Nobody asks anything, after a warm-up. Two engines.",
        subjects=RIVALS,
        measure=AtRest(seconds=15.0),
        columns=columns.AT_REST,
        minutes=2.5,
    ),
    "throughput": Case(
        what="As `stream64`, over the number of streams at once.",
        subjects=(DIRECT, "smg-http", SMG_GRPC, HEADWAY),
        measure=UnderLoad(
            tuple(_streamed(n, max(4, 3 * n)) for n in (1, 8, 32, 64, 128, 256, 512)),
            paced(STEP_MS),
        ),
        columns=(Column("tokens/s", "tokens_per_s"), columns.PER_TOKEN, columns.GAPS[1]),
        minutes=14,
        by_load=True,
    ),
    "requests": Case(
        what="As `short`, over the number of requests at once.",
        subjects=(DIRECT, "smg-http", SMG_GRPC, HEADWAY),
        measure=UnderLoad(
            tuple(_short(n, max(300, 10 * n)) for n in (1, 4, 16, 64, 256)),
            paced(QUICK_STEP_MS),
        ),
        columns=(Column("requests/s", "requests_per_s"), columns.PER_REQUEST),
        minutes=4,
        by_load=True,
    ),
    "edges": Case(
        what="As `short`, with one edge and with two that share the port; the budget is about the"
        " most that each serves, over the number of requests at once, because a request costs an"
        " edge less the more there are. On two cores an edge is not the limit, so here each edge"
        f" gets {EDGE_SHARE:.0%} of a core: it is stopped while it has used more. That stands for"
        " edges with cores of their own; what two edges take from one another on one machine"
        " (caches, memory) does not show. *Cores of all edges* says whether they were the limit:"
        f" then it is {EDGE_SHARE:g} for one and {2 * EDGE_SHARE:g} for two.",
        subjects=(HEADWAY, TWO_EDGES),
        measure=UnderLoad(
            tuple(_short(n, 1000) for n in (64, 128, 256, 512)),
            paced(QUICK_STEP_MS),
            edge_share=EDGE_SHARE,
        ),
        columns=columns.EDGES,
        minutes=3,
    ),
    "idle": Case(
        what="Streams that wait for their next token: memory of the process that holds them (the"
        " edge, or the peer), over what it had before the first. Prompts of 300 tokens. Each time"
        " all clients leave in mid-stream; *after* is 4 s later. smg refuses 5,000; for those, see"
        " [streams.md](streams.md).",
        subjects=RIVALS,
        measure=IdleStreams((1000, 1000)),
        columns=columns.IDLE,
        minutes=5,
    ),
    "turns": Case(
        what="The last prompt of a conversation of 8 turns and 8,000 tokens, in the tokenizer's"
        " process alone, over gRPC: with the turns before it encoded earlier, seen for the first"
        " time, and with `TOKENIZER_SEGMENT_CACHE_BYTES=0`. 240 conversations.",
        subjects=(AFRESH, COLD, KEPT),
        measure=Turns(turns=8, tokens=8000, conversations=240),
        columns=columns.TURNS,
        minutes=2,
    ),
    "vllm": Case(
        what="Real vLLM, SmolLM2-135M-Instruct in float32 on one core: `vllm serve` alone, and"
        " Headway with one worker, with equal settings (`bench/overhead/vllm.py`). Prompts of 100"
        " tokens, 64 streamed, 8 at once; then 16 streamed, 0.4 arrivals a second at random.",
        subjects=(VLLM_SERVE, HEADWAY_VLLM),
        measure=UnderLoad(
            (
                Load(requests=48, at_once=8, prompt_tokens=100, max_tokens=64, ignore_eos=True),
                Load(
                    requests=40,
                    rate_per_s=0.4,
                    prompt_tokens=100,
                    max_tokens=16,
                    ignore_eos=True,
                    seed=2,
                ),
            ),
            warm_up=REAL_WARM_UP,
        ),
        columns=columns.REAL,
        minutes=18,
    ),
}
