"""Log-probabilities in OpenAI's two forms, each given out with the text it belongs to. Pure."""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from headway.worker.v1 import worker_pb2 as pb

LEAST = -9999.0  # JSON has no infinity; vLLM's own floor


class Likelihood(NamedTuple):
    """A token's bytes and its log-probability; None for a prompt's first token."""

    raw: bytes
    logprob: float | None


class Entry(NamedTuple):
    """A token of the text, where it begins in it, and its likeliest alternatives."""

    offset: int
    token: Likelihood
    top: Sequence[Likelihood]


class Awaiting:
    """Entries of one choice whose text has not come yet; it follows `start` code points."""

    def __init__(self, start: int) -> None:
        self._entries: deque[Entry] = deque()
        self._start = start
        self._characters = start

    def take(self, delta: pb.Delta) -> list[Entry]:
        """The entries of the text so far.

        Those left at the end of the choice come too, unless their text is a stop string's.
        """
        self._entries.extend(entry(each, self._start) for each in delta.logprobs)
        self._characters += len(delta.text)
        ends = delta.HasField("finish") and delta.finish.WhichOneof("stop") != "stop_text"
        out = []
        while self._entries and (ends or self._entries[0].offset < self._characters):
            out.append(self._entries.popleft())
        return out


def entry(message: pb.TokenLogprobs, start: int = 0) -> Entry:
    """Read an entry: what stays of the message would hold its whole frame in memory."""
    top = [_read(each) for each in message.top]
    return Entry(start + message.text_offset, _read(message.token), top)


def prompt_entries(messages: Sequence[pb.TokenLogprobs], alternatives: int) -> list[Entry]:
    """The entries of a prompt, whose offsets follow from the tokens' bytes."""
    entries, raw = [], b""
    for message in messages:
        offset = len(raw.decode(errors="ignore"))
        told = entry(message)
        entries.append(told._replace(offset=offset, top=told.top[:alternatives]))
        raw += message.token.text
    return entries


def chat(entries: Sequence[Entry]) -> dict[str, Any]:
    """`logprobs` of a chat's choice."""
    return {"content": [_chat_entry(each) for each in entries], "refusal": None}


def completion(entries: Sequence[Entry], alternatives: int) -> dict[str, Any]:
    """`logprobs` of a completion's choice."""
    return {
        "tokens": [_name(each.token.raw, "bytes:") for each in entries],
        "token_logprobs": [_value(each.token) for each in entries],
        "top_logprobs": [_top(each) for each in entries] if alternatives else None,
        "text_offset": [each.offset for each in entries],
    }


def prompt(messages: Sequence[pb.TokenLogprobs], alternatives: int) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: by token id, the prompt's own token among them."""
    return [
        _by_id(each, alternatives) if each.token.HasField("logprob") else None for each in messages
    ]


def _by_id(message: pb.TokenLogprobs, alternatives: int) -> dict[str, Any]:
    top = enumerate(message.top[:alternatives], start=1)
    ranked = {each.token_id: (rank, each) for rank, each in top}
    ranked.setdefault(message.token.token_id, (message.rank, message.token))
    return {
        str(token_id): {
            "logprob": _value(_read(each)),
            "rank": rank,
            "decoded_token": _name(each.text, ""),
        }
        for token_id, (rank, each) in ranked.items()
    }


def _read(message: pb.TokenLogprob) -> Likelihood:
    logprob = message.logprob if message.HasField("logprob") else None
    return Likelihood(message.text, logprob)


def _chat_entry(each: Entry) -> dict[str, Any]:
    top = [_chat_token(other) for other in each.top]
    return {**_chat_token(each.token), "top_logprobs": top}


def _chat_token(each: Likelihood) -> dict[str, Any]:
    return {"token": _name(each.raw, ""), "logprob": _value(each), "bytes": list(each.raw)}


def _top(each: Entry) -> dict[str, float | None] | None:
    if each.token.logprob is None:
        return None
    top = {_name(other.raw, "bytes:"): _value(other) for other in each.top}
    return {**top, _name(each.token.raw, "bytes:"): _value(each.token)}


def _value(each: Likelihood) -> float | None:
    return None if each.logprob is None else max(each.logprob, LEAST)


def _name(raw: bytes, prefix: str) -> str:
    """A token as text; a part of a character as OpenAI writes it, by its bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return prefix + "".join(f"\\x{byte:02x}" for byte in raw)
