"""What a caller asks of the worker, and whether it can be asked. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from services.worker.engine import EngineFacts, Run, Sampling
from services.worker.parsing import Parser, Parsing
from services.worker.text import Stop

MOST_CHOICES = 128
MOST_LOGPROBS = 20


class FailureKind(Enum):
    """Why a request failed, as the proto names it."""

    INVALID = auto()
    NOT_SERVED = auto()
    UNAVAILABLE = auto()
    ENGINE = auto()
    DUPLICATE = auto()
    PARSER = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that is not served, or not to its end."""

    kind: FailureKind
    message: str
    parameter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to generate."""

    request_id: str
    model: str
    adapter: str = ""
    prompt: Sequence[int]
    generated: Sequence[int] = ()
    sampling: Sampling
    max_tokens: int | None = None  # None: as many as the context leaves
    min_tokens: int = 0
    choices: int = 1
    stop: Stop = field(default_factory=Stop)
    keep_special_tokens: bool = False
    parser_needs_special: bool = False  # in the text that it reads
    cache_salt: str = ""
    priority: int = 0
    traceparent: str = ""
    parsing: Parsing | None = None
    parser: Callable[[], Parser] | None = None  # makes one for a choice; None: all is text


@dataclass(frozen=True, slots=True)
class Limits:
    """What this worker can serve."""

    models: tuple[str, ...]
    max_model_tokens: int
    vocabulary_size: int
    embeds: bool = False
    adapters: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, models: tuple[str, ...], adapters: tuple[str, ...], kind: str, facts: EngineFacts
    ) -> "Limits":
        """The limits that the engine's facts set."""
        embeds = kind == "embed"
        return cls(models, facts.max_model_tokens, facts.vocabulary_size, embeds, adapters)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request, with the limit on its tokens known."""

    request: Request
    max_tokens: int


def accept(request: Request, limits: Limits) -> Accepted | Failure:
    """Check a request as far as that needs no engine.

    In this order: what is served, the ids, the ranges, the room in the context.
    """
    failure = (
        _not_served(request.model, request.adapter, limits)
        or (
            _invalid("this worker embeds, it does not generate", "model") if limits.embeds else None
        )
        or _ids_out_of_range(request, limits)
        or _out_of_range(request)
        or _not_resumable(request)
    )
    return failure or _with_room(request, limits)


def accept_input(model: str, tokens: Sequence[int], limits: Limits) -> Failure | None:
    """Check an input to embed."""
    failure = _not_served(model, "", limits) or _bad_ids(tokens, limits, "input")
    if failure is None and not tokens:
        return _invalid("the input has no tokens", "input")
    if failure is None and len(tokens) > limits.max_model_tokens:
        return _invalid(
            f"the input has {len(tokens)} tokens; the model takes {limits.max_model_tokens}",
            "input",
        )
    return failure


def runs(accepted: Accepted) -> list[Run]:
    """What the engine is to run: each choice, or one for all where all would be equal."""
    request = accepted.request
    done = len(request.generated)
    first = Run(
        run_id=request.request_id,
        tokens=[*request.prompt, *request.generated],
        generated=done,
        choice=0,
        max_tokens=accepted.max_tokens - done,
        min_tokens=request.min_tokens - done if request.min_tokens > done else 0,
        sampling=request.sampling,
        adapter=request.adapter,
        cache_salt=request.cache_salt,
        priority=request.priority,
    )
    count = 1 if request.sampling.is_greedy else request.choices
    others = [
        replace(first, run_id=f"{request.request_id}#{choice}", choice=choice)
        for choice in range(1, count)
    ]
    return [first, *others]


def _invalid(message: str, parameter: str) -> Failure:
    return Failure(FailureKind.INVALID, message, parameter)


def _not_served(model: str, adapter: str, limits: Limits) -> Failure | None:
    if model not in limits.models:
        return Failure(FailureKind.NOT_SERVED, f"model {model!r} is not served here", "model")
    if adapter and adapter not in limits.adapters:
        return Failure(FailureKind.NOT_SERVED, f"adapter {adapter!r} is not served here", "adapter")
    return None


def _ids_out_of_range(request: Request, limits: Limits) -> Failure | None:
    sampling = request.sampling
    return (
        _bad_ids(request.prompt, limits, "prompt")
        or _bad_ids(request.generated, limits, "generated")
        or _bad_ids(sampling.stop_token_ids, limits, "stop_token_ids")
        or _bad_ids(tuple(sampling.logit_bias), limits, "logit_bias")
    )


def _bad_ids(ids: Sequence[int], limits: Limits, parameter: str) -> Failure | None:
    largest = max(ids, default=0)
    if largest < limits.vocabulary_size:
        return None
    return _invalid(
        f"token id {largest} is out of the vocabulary of {limits.vocabulary_size}", parameter
    )


_Rule = tuple[str, Callable[[Request], bool], str]

_RULES: tuple[_Rule, ...] = (
    ("temperature", lambda r: 0 <= r.sampling.temperature <= 2, "0 to 2"),
    ("top_p", lambda r: 0 < r.sampling.top_p <= 1, "above 0, to 1"),
    ("min_p", lambda r: 0 <= r.sampling.min_p <= 1, "0 to 1"),
    ("presence_penalty", lambda r: -2 <= r.sampling.presence_penalty <= 2, "-2 to 2"),
    ("frequency_penalty", lambda r: -2 <= r.sampling.frequency_penalty <= 2, "-2 to 2"),
    ("repetition_penalty", lambda r: 0 < r.sampling.repetition_penalty <= 100, "above 0, to 100"),
    ("choices", lambda r: r.choices <= MOST_CHOICES, f"at most {MOST_CHOICES}"),
    ("logprobs", lambda r: (r.sampling.logprobs or 0) <= MOST_LOGPROBS, f"at most {MOST_LOGPROBS}"),
    (
        "prompt_logprobs",
        lambda r: (r.sampling.prompt_logprobs or 0) <= MOST_LOGPROBS,
        f"at most {MOST_LOGPROBS}",
    ),
    (
        "logit_bias",
        lambda r: all(-100 <= bias <= 100 for bias in r.sampling.logit_bias.values()),
        "-100 to 100",
    ),
    ("max_tokens", lambda r: r.max_tokens is None or r.max_tokens >= 1, "at least 1"),
    (
        "min_tokens",
        lambda r: r.max_tokens is None or r.min_tokens <= r.max_tokens,
        "at most max_tokens",
    ),
    ("stop", lambda r: all(r.stop.texts), "texts that are not empty"),
)


def _out_of_range(request: Request) -> Failure | None:
    for parameter, holds, allowed in _RULES:
        if not holds(request):  # a NaN holds no range
            return _invalid(f"{parameter} must be {allowed}", parameter)
    return None


def _not_resumable(request: Request) -> Failure | None:
    """An engine starts counting penalties, and a form, at its own first token."""
    if not request.generated:
        return None
    sampling = request.sampling
    if request.choices > 1:
        return _invalid("only a request with one choice can be resumed", "generated")
    if sampling.presence_penalty or sampling.frequency_penalty or sampling.constraint:
        return _invalid("a request with penalties or a constraint cannot be resumed", "generated")
    return None


def _with_room(request: Request, limits: Limits) -> Accepted | Failure:
    tokens, context = len(request.prompt), limits.max_model_tokens
    if not tokens:
        return _invalid("the prompt has no tokens", "prompt")
    room = context - tokens
    if room < 1:
        return _invalid(
            f"the prompt has {tokens} tokens and leaves no room for an answer: "
            f"the model's context is {context} tokens",
            "prompt",
        )
    if request.max_tokens is not None and request.max_tokens > room:
        return _invalid(
            f"the prompt has {tokens} tokens and max_tokens is {request.max_tokens}; "
            f"together they may be {context} tokens at most",
            "max_tokens",
        )
    if request.min_tokens > room:
        message = f"min_tokens is {request.min_tokens}; the context leaves {room} tokens"
        return _invalid(message, "min_tokens")
    return Accepted(request, room if request.max_tokens is None else request.max_tokens)
