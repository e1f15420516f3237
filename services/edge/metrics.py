"""The edge's metrics. observability/metrics.yaml lists them with their meaning."""

import os

from prometheus_client import Counter, Gauge, Histogram, values

from services.edge.scraping import DIRECTORY

NAME = "HEADWAY_NAME"  # of this process, where several count together: scraping.py
if DIRECTORY in os.environ and NAME in os.environ:
    # The library tells processes apart by pid; but one that is started again is to go on counting.
    values.ValueClass = values.MultiProcessValue(lambda: os.environ[NAME])  # type: ignore[no-untyped-call]

NOWHERE = "unknown"  # the endpoint of whatever finds no door: paths are the callers' to invent

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5, 10, 30)

ttft_stage = Histogram(
    "headway_ttft_stage_seconds", "Time to first token, by stage", ["stage"], buckets=SECONDS
)
ttft = Histogram("headway_edge_ttft_seconds", "Time to first token", ["model"], buckets=SECONDS)
requests = Counter("headway_edge_requests", "Requests answered", ["endpoint", "status"])
open_requests = Gauge(
    "headway_edge_open_requests",
    "Requests that are being answered",
    multiprocess_mode="livesum",  # scraping.py: of all edges on the port that live
)
tokens = Counter("headway_edge_tokens", "Tokens of answered requests", ["model", "kind"])
resumes = Counter("headway_edge_resumes", "Requests placed again after a worker failed")
