"""Workers' reports, from messages and back. Pure: for who listens to workers, real or simulated."""

from headway.scheduler.v1 import scheduler_pb2 as pb
from services.scheduler.facts import AdapterLoad, PrefillTiming, Report


def read_report(message: pb.Report) -> Report:
    """How a worker fares."""
    return Report(
        running_requests=message.running_requests,
        waiting_requests=message.waiting_requests,
        queued_prefill_tokens=message.queued_prefill_tokens,
        kv_usage=message.kv_usage,
        prefills=tuple(_read_prefill(prefill) for prefill in message.prefills),
        steps=message.steps,
        step_time_us=message.step_time_us,
        generated_tokens=message.generated_tokens,
        prefix_queried_tokens=message.prefix_queried_tokens,
        prefix_hit_tokens=message.prefix_hit_tokens,
        draining=message.draining,
        loaded_adapters=tuple(message.loaded_adapters),
        adapter_loads=tuple(
            AdapterLoad(load.adapter, load.load_us) for load in message.adapter_loads
        ),
    )


def write_report(report: Report) -> pb.Report:
    """The report as people see it."""
    prefills = [
        pb.PrefillTiming(
            request_id=timing.request_id,
            computed_tokens=timing.computed_tokens,
            cached_tokens=timing.cached_tokens,
            queue_us=timing.queue_us,
            prefill_us=timing.prefill_us,
            decoding_requests=timing.decoding_requests,
        )
        for timing in report.prefills
    ]
    return pb.Report(
        running_requests=report.running_requests,
        waiting_requests=report.waiting_requests,
        queued_prefill_tokens=report.queued_prefill_tokens,
        kv_usage=report.kv_usage,
        prefills=prefills,
        steps=report.steps,
        step_time_us=report.step_time_us,
        generated_tokens=report.generated_tokens,
        prefix_queried_tokens=report.prefix_queried_tokens,
        prefix_hit_tokens=report.prefix_hit_tokens,
        draining=report.draining,
        loaded_adapters=report.loaded_adapters,
        adapter_loads=[
            pb.AdapterLoad(adapter=load.adapter, load_us=load.load_us)
            for load in report.adapter_loads
        ],
    )


def _read_prefill(message: pb.PrefillTiming) -> PrefillTiming:
    return PrefillTiming(
        request_id=message.request_id,
        computed_tokens=message.computed_tokens,
        cached_tokens=message.cached_tokens,
        queue_us=message.queue_us,
        prefill_us=message.prefill_us,
        decoding_requests=message.decoding_requests,
    )
