"""One trace a request, a span a hop, and a time to first token that adds up."""

import json
import time
from typing import Any

import httpx
import pytest

from tests.collector import Collector
from tests.system import System

pytestmark = pytest.mark.vllm

HOPS = {
    "chat smollm2": None,
    "tokenizer.encode": "chat smollm2",
    "tokenizer.queue": "tokenizer.encode",
    "tokenizer.render": "tokenizer.encode",
    "tokenizer.tokenize": "tokenizer.encode",
    "scheduler.place": "chat smollm2",
    "scheduler.admission_queue": "scheduler.place",
    "worker.generate": "chat smollm2",
    "engine.queue": "worker.generate",
    "engine.prefill": "worker.generate",
    "engine.decode": "worker.generate",
}
SERVICES = {
    "chat": "headway-edge",
    "tokenizer": "headway-tokenizer",
    "scheduler": "headway-scheduler",
    "worker": "headway-worker",
    "engine": "headway-worker",
}


def ask(system: System, content: str, headers: dict[str, str], **more: Any) -> Any:
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 4,
        "temperature": 0,
        **more,
    }
    explained = {"X-Headway-Explain": "1", **headers}
    url = f"{system.url}/v1/chat/completions"
    response = httpx.post(url, json=body, headers=explained, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def test_every_hop_has_its_span_below_the_clients(
    vllm_system: System, collector: Collector
) -> None:
    trace_id, client_span = "5" * 32, "7" * 16
    traceparent = f"00-{trace_id}-{client_span}-01"
    answer = ask(vllm_system, "Say hello.", {"traceparent": traceparent})
    assert answer["headway"]["trace_id"] == trace_id
    spans = collector.trace(trace_id, len(HOPS))
    by_name = {span.name: span for _, span in spans}
    assert sorted(span.name for _, span in spans) == sorted(HOPS)
    for name, parent in HOPS.items():
        expected = client_span if parent is None else by_name[parent].span_id.hex()
        assert by_name[name].parent_span_id.hex() == expected, name
    for service, span in spans:
        assert service == SERVICES[span.name.replace(" ", ".").split(".")[0]]
        assert span.end_time_unix_nano >= span.start_time_unix_nano


def test_no_span_holds_the_prompt(vllm_system: System, collector: Collector) -> None:
    trace_id = "6" * 32
    traceparent = f"00-{trace_id}-{'7' * 16}-01"
    ask(vllm_system, "Remember the word xylophone.", {"traceparent": traceparent})
    spans = collector.trace(trace_id, len(HOPS))
    assert "xylophone" not in "".join(str(span) for _, span in spans)


def test_a_client_that_does_not_sample_gets_no_trace(
    vllm_system: System, collector: Collector
) -> None:
    ask(vllm_system, "Say hello.", {"traceparent": f"00-{'8' * 32}-{'7' * 16}-00"})
    ask(vllm_system, "Say hello.", {"traceparent": f"00-{'9' * 32}-{'7' * 16}-01"})
    collector.trace("9" * 32, len(HOPS))
    assert collector.trace("8" * 32, 0) == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_ledger_adds_up_to_what_the_client_measures(vllm_system: System, stream: bool) -> None:
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": f"Tell me something new. {stream}"}],
        "max_tokens": 2,
        "stream": stream,
    }
    with httpx.Client(base_url=vllm_system.url, timeout=60) as client:
        client.get("/healthz")  # connects, so that the clock below runs for the request alone
        asked_s = time.perf_counter()
        headers = {"X-Headway-Explain": "1"}
        with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            chunks = response.iter_lines()
            first = next(chunks)
            client_ttft_ms = (time.perf_counter() - asked_s) * 1e3
            lines = [first, *chunks]
    ttft_ms = _explained(lines, stream)["ttft_ms"]
    bound_ms = max(1.0, 0.02 * ttft_ms["total"])
    assert abs(ttft_ms["unattributed"]) <= bound_ms
    assert abs(sum(ttft_ms["stages"].values()) - ttft_ms["total"]) <= bound_ms
    # The client also pays for its own HTTP and, when not streamed, for the decoding.
    assert ttft_ms["total"] <= client_ttft_ms


def _explained(lines: list[str], stream: bool) -> Any:
    last = [line for line in lines if line and "[DONE]" not in line][-1]
    return json.loads(last.removeprefix("data: ") if stream else last)["headway"]
