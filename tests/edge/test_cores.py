"""The edge's small cores: ledger, gathering, events, tenants, fallback, refusals, resume."""

import json
from hashlib import sha256
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.worker.v1 import worker_pb2 as pb
from services.edge import fallback, resume
from services.edge.accounts import Accounts
from services.edge.apis import events, message_events
from services.edge.apis.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    Broken,
    Compressed,
    Defective,
    Invalid,
    NotJson,
    Overloaded,
    Refusal,
    Unauthorized,
    Unavailable,
    UnknownItem,
    UnknownModel,
    UnknownPath,
    UnknownResponse,
    WrongKind,
    WrongMethod,
    answer,
    fault,
)
from services.edge.apis.writing import Extras, Head, New
from services.edge.config import Config
from services.edge.gathering import Gathering
from services.edge.ledger import STAGES, Ledger
from services.edge.tenants import ANONYMOUS, Tenants, read_tenants
from services.edge.workers import Served, Worker, pools_of
from services.edge.workers import served as served_as

durations = st.lists(st.tuples(st.sampled_from(STAGES), st.floats(0, 10)), max_size=30)


@given(durations, st.floats(0, 100))
def test_stages_and_what_nobody_measured_are_the_whole(
    charges: list[tuple[str, float]], total_s: float
) -> None:
    ledger = Ledger(received_s=5.0)
    for stage, seconds in charges:
        ledger.charge(stage, seconds)
    ledger.close(5.0 + total_s)
    assert sum(ledger.stages.values()) + ledger.unattributed_s == pytest.approx(total_s)


def test_what_a_hop_did_not_report_is_network() -> None:
    ledger = Ledger(received_s=0.0)
    ledger.charge_hop("tokenizer_network", 0.010, {"render": 2000, "tokenize": 5000})
    assert ledger.in_ms()["stages"] == {"render": 2.0, "tokenize": 5.0, "tokenizer_network": 3.0}


def test_a_batch_leaves_at_once_and_the_next_gathers_until_it_lands() -> None:
    gathering: Gathering[int] = Gathering(limit=3)
    gathering.waiting += [1]
    assert gathering.take() == [1]
    gathering.waiting += [2, 3, 4, 5]
    assert gathering.take() == []
    gathering.landed()
    assert gathering.take() == [2, 3, 4]
    gathering.landed()
    assert gathering.take() == [5]


@given(st.text(min_size=1), st.integers(0, 127))
def test_any_text_survives_an_event(text: str, choice: int) -> None:
    head = Head(request_id="id", created=1, model='a "model"')
    writer = events.Events(events.CHAT, head, Extras(with_usage=True))
    assert writer.new(New(choice, ""))  # opens it
    event = writer.new(New(choice, text))
    assert event.startswith(b"data: ")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2  # a line end in the text would cut the event in two
    parsed = json.loads(event[6:])
    assert parsed["choices"][0]["delta"]["content"] == text
    assert (parsed["choices"][0]["index"], parsed["usage"]) == (choice, None)


def worker(name: str, **more: Any) -> Worker:
    facts = {"models": ("m",), "max_model_tokens": 10, "draining": False, "generates": True}
    return Worker(name, f"{name}:1", **{**facts, **more})


M = Served("m")
FLEET = [worker(name) for name in "abcd"]
hashes = st.binary(min_size=0, max_size=800).map(lambda raw: raw[: len(raw) // 8 * 8])


@given(hashes)
def test_fallback_keeps_a_prefix_on_its_worker(block_hashes: bytes) -> None:
    first = fallback.place(block_hashes, M, FLEET, {}, ())
    assert first is not None
    others = [each for each in FLEET if each is not first]
    moved = fallback.place(block_hashes, M, [*others, first], {}, ())
    assert moved is first


@given(hashes, st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50)))
def test_fallback_never_exceeds_its_bound(block_hashes: bytes, load: dict[str, int]) -> None:
    chosen = fallback.place(block_hashes, M, FLEET, load, ())
    assert chosen is not None
    assert load.get(chosen.id, 0) + 1 <= fallback.BOUND * (sum(load.values()) + 1) / 4 + 1


@pytest.mark.parametrize(
    ("fleet", "excluded", "served"),
    [
        pytest.param([], [], M, id="nobody-is-known"),
        pytest.param([worker("a", draining=True)], [], M, id="all-drain"),
        pytest.param([worker("a", models=("other",))], [], M, id="another-model"),
        pytest.param([worker("a")], ["a"], M, id="the-last-one-failed-already"),
        pytest.param([worker("a")], [], Served("m", "poet"), id="nobody-has-the-adapter"),
    ],
)
def test_fallback_finds_nobody(fleet: list[Worker], excluded: list[str], served: Served) -> None:
    assert fallback.place(b"", served, fleet, {}, excluded) is None


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Invalid("no", "n", "c"), 400),
        (Unauthorized("no"), 401),
        (UnknownModel("m", ("a", "b")), 404),
        (WrongKind("m", True, ("a",)), 404),
        (UnknownPath("GET", "/x"), 404),
        (UnknownResponse("resp_1"), 404),
        (UnknownItem("msg_1"), 404),
        (WrongMethod("GET", "POST"), 405),
        (BodyTooLarge(5), 413),
        (BodyTooSlow(5), 408),
        (NotJson("text/plain"), 415),
        (Compressed("gzip"), 415),
        (Overloaded("full", 3), 429),
        (Broken("lost"), 502),
        (Defective(), 500),
        (Unavailable("gone", 2), 503),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else str(value),
)
def test_every_refusal_has_its_status(refusal: Refusal, status: int) -> None:
    refused = answer(refusal)
    assert refused.status == status
    assert set(json.loads(refused.body)["error"]) == {"message", "type", "param", "code"}
    retried = status in (429, 503)
    assert (b"retry-after" in dict(refused.headers)) == retried
    kind = json.loads(message_events.answer(refusal).body)["error"]["type"]
    assert (kind == "api_error") == (status >= 500)


def test_the_table_above_is_whole() -> None:
    assert len(get_args(Refusal)) == 16


@pytest.mark.parametrize("said", [answer, message_events.answer], ids=["openais", "anthropics"])
@pytest.mark.parametrize("long", ["x" * 5_000_000, "x" * 4_200], ids=["longest", "a-bit"])
def test_what_is_quoted_of_a_request_is_cut(said: Any, long: str) -> None:
    for refusal in (Invalid(f"No `{long}` here", long), UnknownModel(long, ("m",))):
        refused = said(refusal)
        assert len(refused.body) < 5_000
        assert refused.status == fault(refusal).status
    assert fault(UnknownModel(long, ("m",))).message.endswith("Known models: m.")


def test_a_key_may_be_given_by_its_digest() -> None:
    digest = sha256(b"secret").hexdigest()
    text = json.dumps({"tenants": [{"name": "acme", "keys": [f"sha256:{digest}"]}]})
    assert read_tenants(text.encode()).recognise("Bearer secret") == "acme"


def test_without_tenants_everybody_is_welcome() -> None:
    assert Tenants({}).recognise("") == ANONYMOUS


def test_fallback_goes_where_the_adapter_is() -> None:
    fleet = [*FLEET, worker("e", adapters=("poet",))]
    chosen = fallback.place(b"", Served("m", "poet"), fleet, {}, ())
    assert chosen is not None
    assert chosen.id == "e"


POETS = worker("a", adapters=("poet", "m"))


@pytest.mark.parametrize(
    ("name", "stands_for"),
    [
        pytest.param("m", Served("m"), id="a-model-goes-before-an-adapter-of-its-name"),
        pytest.param("poet", Served("m", "poet"), id="an-adapter-and-its-model"),
        pytest.param("x", Served("x"), id="an-unknown-name-is-for-others-to-refuse"),
    ],
)
def test_what_a_name_stands_for(name: str, stands_for: Served) -> None:
    assert served_as(name, pools_of([POETS], {})) == stands_for


@pytest.mark.parametrize(
    ("fleet", "ready"),
    [
        pytest.param([POETS, worker("b")], {"m", "poet"}, id="one-that-can-load-it"),
        pytest.param([worker("b")], {"m"}, id="nobody-that-can-load-it"),
        pytest.param(
            [worker("a", adapters=("poet",), draining=True), worker("b")], {"m"}, id="it-drains"
        ),
    ],
)
def test_which_names_are_ready(fleet: list[Worker], ready: set[str]) -> None:
    pools = pools_of(fleet, pools_of([POETS], {}))
    assert {name for name, pool in pools.items() if pool.ready} == ready
    assert set(pools) == {"m", "poet"}


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"tenants":[{"name":"a"}]}',
        b'{"tenants":[{"name":"a,b","keys":["k"]}]}',
        b'{"tenants":[{"name":"a","keys":["k"],"weight":0}]}',
        b'{"tenants":[{"name":"a","keys":["k"]},{"name":"b","keys":["k"]}]}',
        b'{"tenants":[]}',
        b'{"tenants":[{"name":"a","keys":[]}]}',
    ],
    ids=[
        "no-json",
        "no-keys",
        "comma-in-a-name",
        "no-weight",
        "one-key-of-two-tenants",
        "no-tenant",
        "no-key-at-all",
    ],
)
def test_a_wrong_tenants_file_is_one_line(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^EDGE_TENANTS: [^\n]*$"):
        read_tenants(text)


@pytest.mark.parametrize(
    ("sampling", "can_go_on"),
    [
        pytest.param(pb.Sampling(temperature=0, seed=1), True, id="greedy"),
        pytest.param(pb.Sampling(temperature=1), True, id="sampled-by-chance"),
        pytest.param(pb.Sampling(temperature=1, seed=1), False, id="sampled-with-a-seed"),
        pytest.param(pb.Sampling(seed=1), False, id="default-temperature-with-a-seed"),
        pytest.param(pb.Sampling(choices=2), False, id="two-choices"),
        pytest.param(pb.Sampling(frequency_penalty=1), False, id="penalised"),
        pytest.param(pb.Sampling(constraint=pb.Constraint(regex="a")), False, id="constrained"),
    ],
)
def test_a_stream_goes_on_exactly_or_not_at_all(sampling: pb.Sampling, can_go_on: bool) -> None:
    assert (resume.obstacle(sampling) is None) == can_go_on


def test_accounts_are_bounded_and_the_newest_wins() -> None:
    accounts = Accounts(limit=2)
    for number in range(3):
        accounts.keep({"request_id": f"r{number}", "trace_id": "t", "number": number})
    assert [account["number"] for account in accounts.latest()] == [2, 1]
    assert accounts.find("t") == {"request_id": "r2", "trace_id": "t", "number": 2}
    assert accounts.find("r0") is None


@pytest.mark.parametrize(
    "settings",
    [{"tokenizers": ()}, {"body_limit_bytes": 0}, {"unread_limit": 0}, {"resume_limit": -1}],
    ids=str,
)
def test_a_wrong_setting_names_its_variable(settings: dict[str, Any]) -> None:
    [name] = settings
    with pytest.raises(ValueError, match=f"EDGE_{name.upper()}"):
        Config(**{"tokenizers": ("a:1",), "scheduler": "b:1", **settings})
