"""What can become of a request: the scheduler's whole vocabulary of answers. Pure."""

from dataclasses import dataclass

from services.scheduler.facts import Pool, Request


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a worker was chosen. `predicted_ttft_s` is None while its rates are not known."""

    policy: str
    candidates: int
    queued_prefill_tokens: int
    predicted_ttft_s: float | None


@dataclass(frozen=True, slots=True)
class Placed:
    """The request goes to this worker, and counts against it from now on."""

    worker_id: str
    address: str
    epoch: int
    cached_tokens: int
    waited_s: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class Waiting:
    """Every worker that fits is full: the answer comes later."""


@dataclass(frozen=True, slots=True)
class AlreadyWaiting:
    """A request of the same id and owner waits already."""

    request_id: str


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """No worker has ever served what was asked for."""

    asked: Pool
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FleetEmpty:
    """No live worker may take the request."""

    asked: Pool
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class TooLarge:
    """No worker can ever hold so many tokens of prompt and answer."""

    tokens: int
    limit_tokens: int


@dataclass(frozen=True, slots=True)
class QueueFull:
    """As many requests wait as may."""

    limit: int
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The placement is of no use any more."""

    waited_s: float


TurnedAway = AlreadyWaiting | UnknownModel | FleetEmpty | TooLarge | QueueFull | DeadlinePassed
Settled = Placed | TurnedAway
Outcome = Settled | Waiting


@dataclass(frozen=True, slots=True)
class Finished:
    """A placement is over. `error_s` is its predicted less its actual time to first token."""

    error_s: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request that had to wait."""

    request: Request
    outcome: Settled
