"""The process that is counted: `python -m bench.cost.counted`, under callgrind.

Prints what it counted, in order, as JSON; the counts themselves are in callgrind's dumps.
"""

import gc
import json

import uvloop

from bench.cost.callgrind import Counter
from bench.cost.workload import Workload
from bench.cost.workloads import WORKLOADS

WARM_UP = 2  # times what is counted


async def _count(workload: Workload, counter: Counter) -> None:
    async with workload.staged() as run:
        await run(WARM_UP * workload.units)
        gc.collect()
        gc.freeze()  # a collection costs by what this workload keeps, not by what was imported
        with counter.counting():
            await run(workload.units)
        gc.unfreeze()


def main() -> None:
    """Count every workload, in order."""
    counter = Counter()
    for workload in WORKLOADS.values():
        uvloop.run(_count(workload, counter))
    print(json.dumps([[name, each.unit, each.units] for name, each in WORKLOADS.items()]))


if __name__ == "__main__":
    main()
