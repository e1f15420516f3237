"""How fast a fleet can be asked. Pure.

The capacity is `round_robin`'s: every worker has its share of the workload from the start, in
its order, and works it off as fast as it can; the rate is that of the whole workload until the
last worker is done. Its last answers run in small batches, which makes the figure a little low.
"""

from collections.abc import Sequence
from itertools import count

from command.simulation.virtual import TraceTokens
from command.simulation.workload import Job
from services.worker.sim_core import SimCore, SimRun, SimSettings


def capacity_per_s(jobs: Sequence[Job], workers: int, settings: SimSettings) -> float:
    """Requests a second that `round_robin` can serve."""
    fresh = count(1 << 63)
    shares = [jobs[worker::workers] for worker in range(workers)]
    return len(jobs) / max(_seconds(share, settings, fresh) for share in shares)


def _seconds(jobs: Sequence[Job], settings: SimSettings, fresh: "count[int]") -> float:
    """How long a worker takes for jobs that are all there from the start."""
    core, now_s = SimCore(settings), 0.0
    for number, job in enumerate(jobs):
        core.submit(SimRun(str(number), TraceTokens(job, fresh), job.output_tokens))
    while not core.is_idle:
        now_s += core.begin().duration_s
        core.finish()
        core.changes.clear()
    return now_s
