"""An OpenTelemetry collector for tests: the real gRPC TraceService, keeping what it gets."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_S = 30


class Collector(rpc.TraceServiceServicer):
    """Collects spans by trace id."""

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[str, Span]]] = {}
        self._came = threading.Condition()
        self.endpoint = ""

    def Export(self, request: Any, context: Any) -> Any:
        """Take spans in."""
        with self._came:
            for resource in request.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        trace = self._spans.setdefault(span.trace_id.hex(), [])
                        trace.append((names["service.name"], span))
            self._came.notify_all()
        return pb.ExportTraceServiceResponse()

    def trace(self, trace_id: str, count: int) -> list[tuple[str, Span]]:
        """The spans of a trace with their services' names, once there are `count`."""
        with self._came:
            arrived = self._came.wait_for(
                lambda: len(self._spans.get(trace_id, [])) >= count, timeout=WAIT_S
            )
            found = list(self._spans.get(trace_id, []))
        names = [span.name for _, span in found]
        assert arrived, f"expected {count} spans, got {names}"
        return found


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on a free port."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    rpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    collector.endpoint = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(1).wait()
