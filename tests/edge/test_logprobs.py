"""Log-probabilities come with their text, and in OpenAI's shapes."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from headway.worker.v1 import worker_pb2 as pb
from services.edge.apis import logprobs
from services.edge.apis.logprobs import Awaiting, Entry, Likelihood

TAIL = "💡".encode()


def told(raw: bytes, offset: int = 0, logprob: float | None = -0.5) -> pb.TokenLogprobs:
    token = pb.TokenLogprob(token_id=len(raw), logprob=logprob, text=raw)
    return pb.TokenLogprobs(token=token, top=[token], text_offset=offset)


def taken(awaiting: Awaiting, *deltas: pb.Delta) -> list[list[bytes]]:
    return [[entry.token.raw for entry in awaiting.take(delta)] for delta in deltas]


def test_an_entry_waits_for_its_text() -> None:
    deltas = [
        pb.Delta(text="a", logprobs=[told(b"a", 0), told(b"EN", 1)]),
        pb.Delta(text="ENx", logprobs=[told(b"x", 3)]),
    ]
    assert taken(Awaiting(0), *deltas) == [[b"a"], [b"EN", b"x"]]


def test_a_stop_strings_tokens_never_come() -> None:
    finish = pb.Finish(reason=pb.FINISH_REASON_STOP, stop_text="END")
    deltas = [
        pb.Delta(text="a", logprobs=[told(b"a", 0), told(b"EN", 1)]),
        pb.Delta(logprobs=[told(b"D", 3)], finish=finish),
    ]
    assert taken(Awaiting(0), *deltas) == [[b"a"], []]


def test_the_limit_gives_out_what_waits() -> None:
    finish = pb.Finish(reason=pb.FINISH_REASON_LENGTH)
    delta = pb.Delta(text="", logprobs=[told(TAIL[:2], 0)], finish=finish)
    assert taken(Awaiting(0), delta) == [[TAIL[:2]]]


@given(st.lists(st.sampled_from(["a", "é", "漢", "💡"]), min_size=1))
def test_bytes_of_entries_are_the_text(parts: list[str]) -> None:
    """Tokens are single bytes; text comes as soon as a character is whole."""
    awaiting = Awaiting(7)
    out = b""
    for characters, part in enumerate(parts):
        raw = part.encode()
        for place, byte in enumerate(raw):
            text = part if place == len(raw) - 1 else ""
            delta = pb.Delta(text=text, logprobs=[told(bytes([byte]), characters)])
            entries = awaiting.take(delta)
            assert bool(entries) == bool(text)
            assert all(entry.offset == 7 + characters for entry in entries)
            out += b"".join(entry.token.raw for entry in entries)
    assert out.decode() == "".join(parts)


def entries(*raws: bytes) -> Sequence[Entry]:
    return [Entry(place, Likelihood(raw, -1.0), ()) for place, raw in enumerate(raws)]


def test_a_part_of_a_character_is_named_by_its_bytes() -> None:
    content = logprobs.chat(entries(b"a", TAIL[:2]))["content"]
    assert [each["token"] for each in content] == ["a", "\\xf0\\x9f"]
    assert [each["bytes"] for each in content] == [[97], [240, 159]]
    columns = logprobs.completion(entries(b"a", TAIL[:2], TAIL[2:]), 1)
    assert columns["tokens"] == ["a", "bytes:\\xf0\\x9f", "bytes:\\x92\\xa1"]
    assert columns["top_logprobs"][1] == {"bytes:\\xf0\\x9f": -1.0}  # none overwrites another
    assert columns["text_offset"] == [0, 1, 2]


def test_no_alternatives_is_null_and_infinity_a_number() -> None:
    columns = logprobs.completion([Entry(0, Likelihood(b"a", float("-inf")), ())], 0)
    assert (columns["top_logprobs"], columns["token_logprobs"]) == (None, [logprobs.LEAST])


def test_a_prompts_first_token_has_no_value() -> None:
    messages = [told(b"Hi", logprob=None), told(TAIL[:2]), told(TAIL[2:]), told(b"!")]
    columns = logprobs.completion(logprobs.prompt_entries(messages, 1), 1)
    assert columns["token_logprobs"] == [None, -0.5, -0.5, -0.5]
    assert columns["text_offset"] == [0, 2, 2, 3]
    first, second, *_ = logprobs.prompt(messages, 1)
    assert first is None
    assert second == {"2": {"logprob": -0.5, "rank": 1, "decoded_token": "\\xf0\\x9f"}}


def test_each_telling_of_a_prompt_has_its_own_number_of_alternatives() -> None:
    likely = [pb.TokenLogprob(token_id=at, logprob=-at, text=b"%d" % at) for at in (1, 2, 3)]
    own = pb.TokenLogprob(token_id=9, logprob=-9, text=b"own")
    message = pb.TokenLogprobs(token=own, top=likely, rank=40)
    echoed = logprobs.completion(logprobs.prompt_entries([message], 1), 1)
    assert echoed["top_logprobs"] == [{"1": -1, "own": -9}]
    (by_id,) = logprobs.prompt([message], 2)
    assert by_id is not None
    assert {token_id: each["rank"] for token_id, each in by_id.items()} == {
        "1": 1,
        "2": 2,
        "9": 40,
    }
    (alone,) = logprobs.prompt([message], 0)
    assert alone == {"9": {"logprob": -9, "rank": 40, "decoded_token": "own"}}
