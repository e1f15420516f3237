"""A request's time to first token as a waterfall of text. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from command.errors import CommandError

WIDTH = 40  # of a bar that is all of the time
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: where it begins and how long it takes."""

    name: str
    begins_ms: float
    takes_ms: float


def read_stages(ttft_ms: Mapping[str, Any]) -> list[Stage]:
    """The stages one after another, as the ledger orders them; what none explains is last."""
    stages, now_ms = [], 0.0
    spent = {**ttft_ms["stages"], "unattributed": ttft_ms["unattributed"]}
    for name, takes_ms in spent.items():
        stages.append(Stage(name, now_ms, takes_ms))
        now_ms += takes_ms
    return stages


def draw(ledger: Mapping[str, Any]) -> Iterator[str]:
    """The lines of one ledger."""
    ttft_ms = ledger["ttft_ms"]
    total_ms = ttft_ms["total"]
    if not total_ms:
        raise CommandError(f"request {ledger['request_id']} ended before its first token")
    yield f"{ledger['request_id']}  trace {ledger['trace_id'] or '-'}"
    yield (
        f"{ledger['model']} on {ledger['worker'] or '-'}, status {ledger['status']}, "
        f"{ledger['prompt_tokens']} prompt tokens ({ledger['cached_tokens']} cached), "
        f"{ledger['completion_tokens']} generated, {ledger['resumes']} resumes"
    )
    yield ""
    for stage in read_stages(ttft_ms):
        share = stage.takes_ms / total_ms
        figures = f"{stage.takes_ms:10.3f} ms {share:6.1%}"
        yield f"{stage.name:<18}{figures}  {bar(stage.begins_ms / total_ms, share)}".rstrip()
    yield f"{'time to first token':<19}{total_ms:9.3f} ms"


def bar(begins: float, share: float) -> str:
    """A bar of `share` of the width that begins at `begins` of it, to an eighth of a letter."""
    eighths = round(max(0.0, min(share, 1.0)) * WIDTH * 8)
    whole, rest = divmod(eighths, 8)
    return " " * round(min(begins, 1.0) * WIDTH) + "█" * whole + _EIGHTHS[rest].strip()
