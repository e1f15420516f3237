"""All that is counted, by name: the service, and what is counted of it."""

from collections.abc import Mapping

from bench.cost import edge, scheduler, tokenizer, worker, yardstick
from bench.cost.baseline import YARDSTICK
from bench.cost.workload import Workload

WORKLOADS: Mapping[str, Workload] = {
    YARDSTICK: Workload("plain code", 500, yardstick.code),
    "edge.token": Workload("a streamed token", 3200, edge.token),
    "edge.request": Workload("a chat request, not streamed", 80, edge.request),
    "scheduler.request": Workload("a placement and its end", 128, scheduler.request),
    "scheduler.report": Workload("a worker's report", 256, scheduler.report),
    "scheduler.kv_change": Workload("a change in a worker's cache", 64, scheduler.kv_change),
    "tokenizer.request": Workload("a chat request", 64, tokenizer.request),
    "worker.token": Workload("a streamed token", 1600, worker.token),
}
