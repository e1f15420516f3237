"""Where requests go while the scheduler is down: bounded-load prefix hashing. Pure.

Rendezvous hashing keeps a prefix on its worker while the fleet stays the same, and moves only
its share when a worker comes or goes. The bound keeps a popular prefix from drowning one worker.
Sources: Thaler and Ravishankar, 1998; Mirrokni, Thorup and Zadimoghaddam, 2018.
"""

import math
from collections.abc import Mapping, Sequence

from xxhash import xxh3_64_intdigest

from services.edge.workers import Served, Worker

BOUND = 1.25  # a worker gets at most this times its fair share of this edge's requests
PREFIX_BLOCKS = 16  # prompts that share this many blocks go together


def place(
    block_hashes: bytes,
    served: Served,
    workers: Sequence[Worker],
    open_requests: Mapping[str, int],
    excluded: Sequence[str],
) -> Worker | None:
    """The worker for a prompt, or None when none serves the model and its adapter.

    `open_requests` counts this edge's own requests by worker id.
    """
    fitting = [
        worker
        for worker in workers
        if _serves(worker, served) and not worker.draining and worker.id not in excluded
    ]
    if not fitting:
        return None
    total = sum(open_requests.get(worker.id, 0) for worker in fitting)
    bound = math.ceil(BOUND * (total + 1) / len(fitting))
    # A block's hash names all blocks before it: the last one in reach stands for the prefix.
    prefix = block_hashes[: PREFIX_BLOCKS * 8][-8:]
    below = [worker for worker in fitting if open_requests.get(worker.id, 0) < bound]
    return max(below, key=lambda worker: xxh3_64_intdigest(prefix + worker.id.encode()))


def _serves(worker: Worker, served: Served) -> bool:
    has_adapter = not served.adapter or served.adapter in worker.adapters
    return served.model in worker.models and has_adapter
