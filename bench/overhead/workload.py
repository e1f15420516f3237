"""What a load asks for: the bodies of its requests, by a seed. Pure."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

MODEL = "smollm2"
WORKLOADS = ("unique", "shared", "chat")
QUESTION_TOKENS = 20
_WORDS = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work government "
    "number night point home water room mother area money story fact month lot right study book "
    "eye job word business issue side kind head house service friend father power hour game line "
    "end member law car city community name president team minute idea body information back "
    "parent face others level office door health person art war history party result change "
    "morning reason research girl guy moment air teacher force education"
)
VOCABULARY = tuple(_WORDS.split())
"""Each is one token of most vocabularies, so words count as tokens."""

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is asked, and how fast. A load is at once or by rate, never both."""

    requests: int = 512
    """Conversations, for `chat`."""
    at_once: int = 0
    """So many callers, each with one request open: a closed loop."""
    rate_per_s: float = 0.0
    """Arrivals at random, whether or not those before were answered: an open loop."""
    prompt_tokens: int = 300
    max_tokens: int = 128
    stream: bool = True
    workload: str = "unique"
    prefixes: int = 16
    """System prompts, for `shared` and `chat`."""
    turns: int = 4
    """Of a conversation."""
    ignore_eos: bool = False
    """Exactly `max_tokens`, from engines that know of an end."""
    seed: int = 1

    def __post_init__(self) -> None:
        if bool(self.at_once) == bool(self.rate_per_s):
            raise ValueError("a load is either at once or by rate")
        if self.workload not in WORKLOADS:
            raise ValueError(f"workload must be one of {', '.join(WORKLOADS)}")

    @property
    def label(self) -> str:
        """How tables name it within its case."""
        return f"{self.at_once} at once" if self.at_once else f"{self.rate_per_s:g}/s"


def talks(load: Load) -> Iterator[list[bytes]]:
    """The bodies of each conversation, in order; one body each but for `chat`."""
    chance = Random(load.seed)
    for conversation in _conversations(load, chance):
        yield [_body(load, messages) for messages in conversation]


def arrivals_s(load: Load) -> list[float]:
    """When each conversation begins, from the start of an open loop."""
    chance, now_s, times = Random(load.seed + 1), 0.0, list[float]()
    for _ in range(load.requests):
        now_s += chance.expovariate(load.rate_per_s)
        times.append(now_s)
    return times


def words(count: int, chance: Random) -> str:
    """So many tokens of text."""
    return " ".join(chance.choices(VOCABULARY, k=count))


def _conversations(load: Load, chance: Random) -> Iterator[list[Messages]]:
    if load.workload == "unique":
        for _ in range(load.requests):
            yield [[_said("user", words(load.prompt_tokens, chance))]]
        return
    systems = [words(load.prompt_tokens, chance) for _ in range(load.prefixes)]
    for _ in range(load.requests):
        if load.workload == "shared":
            question = _said("user", words(QUESTION_TOKENS, chance))
            yield [[_said("system", chance.choice(systems)), question]]
        else:
            yield list(_turns(load.turns, systems, chance))


def _turns(turns: int, systems: Sequence[str], chance: Random) -> Iterator[Messages]:
    # As often as Zipf's law has it: the second system prompt half as often as the first.
    weights = [1 / rank for rank in range(1, len(systems) + 1)]
    messages = [_said("system", chance.choices(systems, weights)[0])]
    for _ in range(turns):
        messages = [*messages, _said("user", words(chance.randint(10, 60), chance))]
        yield messages
        messages = [*messages, _said("assistant", words(chance.randint(20, 120), chance))]


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _body(load: Load, messages: Messages) -> bytes:
    body = {
        "model": MODEL,
        "messages": messages,
        "max_tokens": load.max_tokens,
        "temperature": 0.0,
        "stream": load.stream,
    }
    return json.dumps(body | ({"ignore_eos": True} if load.ignore_eos else {})).encode()
