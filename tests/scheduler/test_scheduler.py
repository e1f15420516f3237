"""The core as a whole: requests, workers and time in; placements out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.accounts import Ended
from services.scheduler.facts import BY_HAND, Key, Kind, KvChange, Pool, PrefillTiming, Report
from services.scheduler.outcomes import (
    AlreadyWaiting,
    DeadlinePassed,
    FleetEmpty,
    Outcome,
    Placed,
    QueueFull,
    TooLarge,
    UnknownModel,
    Waiting,
)
from services.scheduler.scheduler import LOOKAHEAD, PASS_APART_S, Scheduler
from tests.scheduler.makers import OWNER, TTL_S, fleet_of, hello, request, scheduler

BLOCKS = (11, 12)


def worker_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Placed), outcome
    return outcome.worker_id


def late(core: Scheduler) -> dict[str, str]:
    """The answers that came late: the worker, or the kind of refusal."""
    return {
        answer.request.key.request_id: answer.outcome.worker_id
        if isinstance(answer.outcome, Placed)
        else type(answer.outcome).__name__
        for answer in core.take_answers()
    }


def full_fleet(**bounds: int) -> Scheduler:
    """One worker that runs one request, and has it."""
    core = fleet_of(hello("a", max_running=1), policy="predicted", **bounds)
    assert worker_of(core.place(request("first"), 0.0)) == "a"
    return core


def cache(core: Scheduler, worker_id: str, *hashes: int) -> None:
    member = core.fleet.member(worker_id)
    assert member is not None
    sequence = member.next_sequence or 0
    assert core.change(member, KvChange(sequence=sequence, stored=hashes), 0.0)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        pytest.param({"model": "alias"}, "a", id="an-alias-is-the-model"),
        pytest.param({"adapter": "poet"}, "b", id="the-adapter-must-be-there"),
        pytest.param({"excluded_workers": frozenset("a")}, "b", id="not-to-the-excluded"),
        pytest.param({"excluded_workers": frozenset("ax")}, "b", id="strangers-may-be-excluded"),
        pytest.param({"prompt_tokens": 300}, "b", id="only-where-it-fits"),
        pytest.param(
            {"prompt_tokens": 150, "max_tokens": 4000}, "a", id="choices-beyond-the-context-run"
        ),
    ],
)
def test_filter(said: dict[str, Any], outcome: str) -> None:
    core = fleet_of(hello("a"), hello("b", adapters=("poet",), max_model_tokens=400, max_running=7))
    assert worker_of(core.place(request(**said), 0.0)) == outcome


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        pytest.param(
            {"model": "x"},
            UnknownModel(Pool("x", "", Kind.GENERATE), ("alias", "m")),
            id="nobody-ever-served-it",
        ),
        pytest.param(
            {"adapter": "x"},
            UnknownModel(Pool("m", "x", Kind.GENERATE), ("alias", "m")),
            id="nobody-ever-had-the-adapter",
        ),
        pytest.param(
            {"kind": Kind.EMBED, "max_tokens": 0},
            UnknownModel(Pool("m", "", Kind.EMBED), ("alias", "m")),
            id="a-generating-model-does-not-embed",
        ),
        pytest.param(
            {"excluded_workers": frozenset("ab")},
            FleetEmpty(Pool("m", "", Kind.GENERATE), 1.0),
            id="everybody-is-excluded",
        ),
        pytest.param({"prompt_tokens": 200}, TooLarge(201, 200), id="no-room-for-an-answer"),
        pytest.param({"prompt_tokens": 999}, TooLarge(1000, 200), id="longer-than-any-model"),
        pytest.param({"deadline_s": 0.0}, DeadlinePassed(0.0), id="a-deadline-that-has-passed"),
    ],
)
def test_turned_away(said: dict[str, Any], outcome: Outcome) -> None:
    core = fleet_of(hello("a"), hello("b"))
    assert core.place(request(**said), 0.0) == outcome
    assert len(core.books) == 0


def test_a_cache_too_small_for_prompt_and_answer_is_too_small() -> None:
    core = fleet_of(hello("a", capacity_blocks=4))
    assert core.place(request(prompt_tokens=15, max_tokens=5), 0.0) == TooLarge(16, 16)


def test_before_anybody_joined_nothing_is_unknown() -> None:
    assert isinstance(scheduler().place(request(), 0.0), FleetEmpty)


def test_a_pool_whose_workers_left_is_empty_and_not_unknown() -> None:
    core = fleet_of(hello("a"))
    core.tick(TTL_S)
    assert isinstance(core.place(request(), TTL_S), FleetEmpty)


def test_the_cached_prefix_is_credited() -> None:
    core = fleet_of(hello("a"), hello("b"))
    cache(core, "b", *BLOCKS)
    placed = core.place(request(block_hashes=BLOCKS), 0.0)
    assert isinstance(placed, Placed)
    assert (placed.worker_id, placed.cached_tokens) == ("b", 8)


def test_the_last_token_is_always_computed() -> None:
    core = fleet_of(hello("a"))
    cache(core, "a", *BLOCKS)
    placed = core.place(request(prompt_tokens=8, block_hashes=BLOCKS), 0.0)
    assert isinstance(placed, Placed)
    assert placed.cached_tokens == 4


def test_another_block_size_caches_nothing() -> None:
    core = fleet_of(hello("a", block_size=8))
    cache(core, "a", *BLOCKS)
    placed = core.place(request(block_hashes=BLOCKS), 0.0)
    assert isinstance(placed, Placed)
    assert placed.cached_tokens == 0


def test_a_prompt_on_its_way_is_expected_where_it_goes() -> None:
    core = fleet_of(hello("a"))
    first = core.place(request("r", block_hashes=BLOCKS), 0.0)
    second = core.place(request("s", block_hashes=BLOCKS), 0.0)
    assert isinstance(first, Placed)
    assert isinstance(second, Placed)
    assert (first.cached_tokens, second.cached_tokens) == (0, 8)


def test_a_request_that_ended_uncomputed_leaves_nothing_expected() -> None:
    core = fleet_of(hello("a"))
    core.place(request(block_hashes=BLOCKS), 0.0)
    core.finish(Key(OWNER, "r"), 0.0)
    assert core.index.expected_blocks == 0


def test_a_burst_does_not_stampede() -> None:
    core = fleet_of(hello("a"), hello("b"), hello("c"))
    workers = [worker_of(core.place(request(f"r{n}"), 0.0)) for n in range(9)]
    assert sorted(workers) == list("aaabbbccc")


def test_a_dead_worker_takes_its_blocks_with_it() -> None:
    core = fleet_of(hello("a"), hello("b"))
    cache(core, "a", *BLOCKS)
    core.place(request("old", block_hashes=BLOCKS, excluded_workers=frozenset("b")), 0.0)
    member = core.fleet.member("a")
    assert member is not None
    core.leave(member, 0.0)
    assert core.index.blocks == core.index.expected_blocks == 0
    core.join(hello("a", epoch=2), 0.0)
    placed = core.place(request("new", block_hashes=BLOCKS), 0.0)
    assert isinstance(placed, Placed)
    assert placed.cached_tokens == 0


def test_a_second_worker_of_an_id_takes_the_firsts_place() -> None:
    core = fleet_of(hello("a"))
    cache(core, "a", *BLOCKS)
    older = core.fleet.member("a")
    assert older is not None
    core.join(hello("a", epoch=2), 1.0)
    assert not core.fleet.holds(older)
    assert not core.leave(older, 1.0)
    assert len(core.fleet.members()) == 1
    assert core.index.blocks == 0


def test_a_gap_is_refused_and_a_snapshot_starts_from_nothing() -> None:
    core = fleet_of(hello("a"))
    member = core.fleet.member("a")
    assert member is not None
    assert core.change(member, KvChange(sequence=0, stored=(1, 2)), 0.0)
    assert not core.change(member, KvChange(sequence=2, stored=(3,)), 0.0)
    assert core.change(member, KvChange(sequence=3, snapshot=True, stored=(4,)), 0.0)
    assert core.index.match((1,), 1).tolist() == [0]
    assert core.index.match((4,), 1).tolist() == [1]


class TestQueue:
    """Late binding: who waits, who is next, who is turned away."""

    def test_a_request_waits_while_everybody_is_full(self) -> None:
        core = full_fleet()
        assert core.place(request("second", arrived_s=1.0), 1.0) == Waiting()
        core.finish(Key(OWNER, "first"), 3.0)
        (answer,) = core.take_answers()
        assert isinstance(answer.outcome, Placed)
        assert answer.outcome.waited_s == 2.0

    def test_lower_priority_classes_go_first_then_arrivals(self) -> None:
        core = full_fleet()
        for name, priority in (("c", 1), ("a", 0), ("d", 1), ("b", 0)):
            core.place(request(name, priority=priority), 0.0)
        order: list[str] = []
        for running in ("first", "a", "b", "c"):
            core.finish(Key(OWNER, running), 0.0)
            order += late(core)
        assert order == ["a", "b", "c", "d"]

    def test_nobody_overtakes_who_waits(self) -> None:
        core = fleet_of(hello("a", max_running=1), hello("b", max_running=1))
        core.place(request("first"), 0.0)
        core.place(request("second"), 0.0)
        core.place(request("picky", excluded_workers=frozenset("a")), 0.0)
        core.finish(Key(OWNER, "first"), 0.0)
        assert late(core) == {}
        # There is room at a, which the picky one will not have: the next may use it.
        assert core.place(request("next"), PASS_APART_S) == Waiting()
        assert late(core) == {"next": "a"}

    def test_a_full_queue_turns_away_with_a_hint(self) -> None:
        core = full_fleet(queued_requests=1)
        core.place(request("second"), 0.0)
        assert core.place(request("third"), 0.0) == QueueFull(1, 1.0)

    def test_the_hint_follows_how_fast_the_queue_moves(self) -> None:
        core = full_fleet(queued_requests=3)
        names = ["first", "r1", "r2", "r3"]
        for name in names[1:]:
            core.place(request(name), 0.0)
        for second, name in enumerate(names[:3]):
            core.finish(Key(OWNER, name), second * 10.0)
        for n in range(3):
            core.place(request(f"s{n}"), 20.0)
        turned_away = core.place(request("t"), 20.0)
        assert isinstance(turned_away, QueueFull)
        assert turned_away.retry_after_s == pytest.approx(30.0)

    def test_a_deadline_is_kept_in_the_queue(self) -> None:
        core = full_fleet()
        core.place(request("second", deadline_s=2.0), 0.0)
        core.tick(1.9)
        assert late(core) == {}
        core.tick(2.0)
        assert late(core) == {"second": "DeadlinePassed"}
        assert len(core.queue) == 0

    def test_a_withdrawn_request_is_never_placed(self) -> None:
        core = full_fleet()
        core.place(request("second"), 0.0)
        core.finish(Key(OWNER, "second"), 0.0)
        core.finish(Key(OWNER, "first"), 0.0)
        assert late(core) == {}
        assert len(core.books) == 0

    def test_an_id_that_waits_does_not_wait_twice(self) -> None:
        core = full_fleet()
        core.place(request("second"), 0.0)
        assert core.place(request("second"), 0.0) == AlreadyWaiting("second")

    def test_an_id_that_is_placed_again_gives_its_old_place_back(self) -> None:
        core = full_fleet()
        assert worker_of(core.place(request("first"), 0.0)) == "a"
        assert len(core.books) == 1

    def test_a_joining_worker_takes_who_waits(self) -> None:
        core = full_fleet()
        core.place(request("second"), 0.0)
        core.join(hello("b"), 0.0)
        assert late(core) == {"second": "b"}

    def test_who_waits_for_nobody_is_turned_away(self) -> None:
        core = full_fleet()
        core.place(request("second"), 0.0)
        core.drain("a", 0.0)
        assert late(core) == {"second": "FleetEmpty"}

    def test_an_owner_that_is_gone_holds_nothing(self) -> None:
        core = full_fleet()
        core.place(request("second"), 0.0)
        core.place(request("other", owner=2), 0.0)
        core.release(OWNER, 0.0)
        assert late(core) == {"other": "a"}
        assert (len(core.books), len(core.queue)) == (1, 0)

    def test_what_was_placed_by_hand_is_forgotten_after_its_lease(self) -> None:
        core = fleet_of(hello("a", max_running=1))
        core.place(request("first", owner=BY_HAND, lease_s=5.0), 0.0)
        core.place(request("second"), 0.0)
        core.fleet.heard(core.fleet.members()[0], 5.0)
        core.tick(4.9)
        assert late(core) == {}
        core.tick(5.0)
        assert late(core) == {"second": "a"}

    def test_work_from_elsewhere_takes_room_too(self) -> None:
        core = fleet_of(hello("a", max_running=2))
        for _ in range(2):
            core.report(core.fleet.members()[0], Report(running_requests=2), 0.0)
        assert core.place(request(), 0.0) == Waiting()
        for _ in range(2):
            core.report(core.fleet.members()[0], Report(), 0.0)
        assert late(core) == {"r": "a"}


class TestLateBinding:
    """While somebody waits, a worker gets a step's work when it is nearly done with the last.

    Rates are the prior's: 200 µs a token, so a step of 1,000 tokens takes 200 ms, and is nearly
    done 40 ms before its end.
    """

    BLOCKS = tuple(range(400))

    def fleet(self, *names: str, **said: Any) -> Scheduler:
        roomy = {"step_budget_tokens": 1000, "max_running": 100, "max_model_tokens": 9000}
        return fleet_of(
            *(hello(name, **(roomy | {"capacity_blocks": 9000} | said)) for name in names)
        )

    def fill(self, core: Scheduler, worker_id: str, tokens: int = 1500, name: str = "fill") -> None:
        others = frozenset("abc") - {worker_id}
        asked = request(f"{name}-{worker_id}", prompt_tokens=tokens, excluded_workers=others)
        assert worker_of(core.place(asked, 0.0)) == worker_id

    def test_while_nobody_waits_a_worker_takes_requests_until_its_next_step_is_full(self) -> None:
        core = self.fleet("a")
        self.fill(core, "a", 999, "first")
        self.fill(core, "a", 999, "second")
        assert core.place(request(), 0.0) == Waiting()

    def test_time_alone_makes_room(self) -> None:
        core = self.fleet("a")
        self.fill(core, "a")
        core.place(request(), 0.0)
        core.dispatch(0.259)
        assert late(core) == {}
        core.dispatch(0.261)
        assert late(core) == {"r": "a"}

    def test_a_worker_that_is_nearly_done_gets_one_steps_work(self) -> None:
        core = self.fleet("a")
        self.fill(core, "a")
        for number in range(4):
            core.place(request(f"r{number}", prompt_tokens=400), 0.0)
        core.dispatch(0.261)
        assert set(late(core)) == {"r0", "r1"}

    def test_a_long_prompt_is_given_to_a_worker_that_is_nearly_done(self) -> None:
        core = self.fleet("a")
        self.fill(core, "a")
        core.place(request(prompt_tokens=5000), 0.0)
        core.dispatch(0.261)
        assert set(late(core)) == {"r"}

    def test_a_worker_that_says_nothing_is_not_taken_to_be_idle(self) -> None:
        core = self.fleet("a")
        self.fill(core, "a", 900, "first")
        self.fill(core, "a", 900, "second")
        core.place(request(prompt_tokens=900), 0.0)
        core.dispatch(60.0)  # at most one step can have gone by without a word
        assert late(core) == {}

    def test_waiting_for_the_prefix_can_cost_less_than_computing_it_again(self) -> None:
        core = self.fleet("a", "b")
        cache(core, "a", *self.BLOCKS)
        self.fill(core, "a", 1100)
        asked = request(prompt_tokens=1610, block_hashes=self.BLOCKS)
        assert core.place(asked, 0.0) == Waiting()  # 220 ms of work there, 320 ms of prefill at b
        core.dispatch(0.19)
        assert late(core) == {"r": "a"}

    def test_computing_it_again_can_cost_less_than_waiting(self) -> None:
        core = self.fleet("a", "b")
        cache(core, "a", *self.BLOCKS)
        self.fill(core, "a", 1990)
        asked = request(prompt_tokens=1610, block_hashes=self.BLOCKS)
        assert worker_of(core.place(asked, 0.0)) == "b"

    def test_who_waits_ahead_counts_as_work_ahead(self) -> None:
        core = self.fleet("a", "b")
        cache(core, "a", *self.BLOCKS)
        self.fill(core, "a", 1100)
        for number in range(9):
            asked = request(f"r{number}", prompt_tokens=1810, block_hashes=self.BLOCKS)
            core.place(asked, 0.0)
        core.dispatch(PASS_APART_S)
        # 210 tokens each to compute at a, 1,810 at b: the line for a is soon too long for some.
        assert set(late(core).values()) == {"b"}
        assert len(core.queue) > 1

    def test_under_load_what_shares_an_uncached_prefix_waits_for_whoever_computes_it(self) -> None:
        core = self.fleet("a", "b")
        for name in "ab":
            self.fill(core, name, 1800)
            for _ in range(100):
                core.traffic.placed(core.fleet.members()["ab".index(name)].slot, 150, 0.0)
        for number in range(4):
            asked = request(f"r{number}", prompt_tokens=810, block_hashes=self.BLOCKS[:200])
            assert core.place(asked, 0.0) == Waiting()
        core.dispatch(0.33)
        assert len(late(core)) == 4
        assert sorted(core.books.placed[:2]) == [1, 5]

    def test_a_full_cache_is_waited_for(self) -> None:
        core = self.fleet("a", capacity_blocks=10)
        assert worker_of(core.place(request("first", prompt_tokens=30), 0.0)) == "a"
        assert core.place(request("second", prompt_tokens=30), 0.0) == Waiting()
        core.finish(Key(OWNER, "first"), 0.1)
        assert late(core) == {"second": "a"}

    def test_an_idle_worker_that_can_hold_it_takes_it_however_long_answers_may_be(self) -> None:
        core = self.fleet("a", capacity_blocks=257, max_model_tokens=1028)
        asked = request(prompt_tokens=1000, max_tokens=800)  # two choices of up to 400
        assert worker_of(core.place(asked, 0.0)) == "a"

    def test_nobody_waits_for_ever_for_a_worker_that_hangs(self) -> None:
        core = self.fleet("a", "b")
        cache(core, "a", *self.BLOCKS)
        self.fill(core, "a", 650, "first")
        self.fill(core, "a", 650, "second")
        core.place(request(prompt_tokens=1610, block_hashes=self.BLOCKS), 0.0)
        assert late(core) == {}
        for second in range(60):
            core.dispatch(float(second))
        assert late(core) == {"r": "b"}

    def test_who_fits_only_a_full_worker_holds_nobody_up(self) -> None:
        core = self.fleet("b")
        core.join(
            hello(
                "a",
                step_budget_tokens=1000,
                max_running=1,
                max_model_tokens=99_000,
                capacity_blocks=99_000,
            ),
            0.0,
        )
        for number in range(LOOKAHEAD + 2):
            core.place(request(f"large{number}", prompt_tokens=20_000), 0.0)
        core.place(request("small"), 0.1)
        core.dispatch(1.0)
        assert late(core)["small"] == "b"

    def test_no_line_keeps_another_from_its_turn(self) -> None:
        core = self.fleet("a", max_running=1)
        core.place(request("running"), 0.0)
        for number in range(30):
            core.place(request(f"flood{number}"), 0.0)
        core.place(request("other", model="alias"), 0.0)
        for second in range(1, 4):
            running = next(iter(core.books.held_by(OWNER)))
            core.finish(running, float(second))
        assert "other" in late(core)

    def test_who_nobody_can_serve_does_not_join_the_line(self) -> None:
        core = full_fleet()
        core.place(request("second"), 0.0)
        asked = request("picky", excluded_workers=frozenset("a"))
        assert isinstance(core.place(asked, 0.0), FleetEmpty)
        assert isinstance(core.place(request("long", prompt_tokens=9000), 0.0), TooLarge)

    def test_a_deadline_that_another_worker_meets_is_met_there(self) -> None:
        core = self.fleet("a", "b")
        cache(core, "a", *self.BLOCKS)
        self.fill(core, "a", 1100)
        asked = request(prompt_tokens=1610, block_hashes=self.BLOCKS, deadline_s=0.1)
        assert worker_of(core.place(asked, 0.0)) == "b"

    def test_a_deadline_that_the_wait_would_pass_is_refused_at_once(self) -> None:
        core = self.fleet("a")
        self.fill(core, "a", 1900)  # 380 ms, nearly done after 340
        assert core.place(request("s", deadline_s=0.33), 0.0) == DeadlinePassed(0.0)
        assert core.place(request("t", deadline_s=0.35), 0.0) == Waiting()

    def test_a_deadline_that_the_line_would_pass_is_refused_at_once(self) -> None:
        core = full_fleet()
        for number in range(4):
            core.place(request(f"r{number}"), 0.0)
        core.finish(Key(OWNER, "first"), 1.0)
        core.finish(Key(OWNER, "r0"), 2.0)  # one leaves each second; two are left
        assert core.place(request("s", deadline_s=2.5), 2.0) == Waiting()  # goes first
        assert core.place(request("t", deadline_s=3.5), 2.0) == Waiting()
        assert core.place(request("u", deadline_s=3.6), 2.0) == DeadlinePassed(2.0)
        assert core.place(request("v", deadline_s=2.6, tenant="x"), 2.0) == Waiting()

    def test_a_pass_looks_at_a_bounded_part_of_the_line(self) -> None:
        core = self.fleet("a", "b")
        self.fill(core, "a")
        for number in range(LOOKAHEAD):
            core.place(request(f"r{number}", excluded_workers=frozenset("b")), 0.0)
        core.place(request("anywhere"), PASS_APART_S)
        assert late(core) == {}

    def test_other_policies_do_not_price_waiting(self) -> None:
        core = fleet_of(hello("a", step_budget_tokens=10), policy="round_robin")
        assert {worker_of(core.place(request(f"r{n}"), 0.0)) for n in range(8)} == {"a"}


def test_a_draining_worker_gets_nothing_new() -> None:
    core = fleet_of(hello("a"), hello("b"))
    core.drain("a", 0.0)
    assert {worker_of(core.place(request(f"r{n}"), 0.0)) for n in range(4)} == {"b"}
    assert core.drain("x", 0.0) is None


def test_a_prediction_is_made_once_rates_are_known_and_compared_with_what_came() -> None:
    core = fleet_of(hello("a"))
    assert isinstance(first := core.place(request("r"), 0.0), Placed)
    assert first.decision.predicted_ttft_s is None
    timing = PrefillTiming(request_id="r", computed_tokens=11, prefill_us=20_000)
    core.report(core.fleet.members()[0], Report(prefills=(timing,)), 0.0)
    assert isinstance(second := core.place(request("s"), 0.0), Placed)
    assert second.decision.predicted_ttft_s is not None
    finished = core.finish(Key(OWNER, "s"), 0.0, Ended(actual_ttft_s=0.5))
    assert finished is not None
    assert finished.error_s == pytest.approx(second.decision.predicted_ttft_s - 0.5)
    assert core.decisions.last()[0].actual_ttft_s == 0.5


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["place", "finish", "die", "join", "store", "report", "tick", "release"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(EVENTS, st.sampled_from(["predicted", "least_load", "prefix_hash", "round_robin", "random"]))
def test_the_same_events_place_alike_and_every_request_is_answered_once(
    events: list[tuple[str, int]], policy: str
) -> None:
    answers, core = _run(events, policy)
    assert answers == _run(events, policy)[0]
    asked = {name for name, _ in answers}
    assert len(answers) == len(asked)
    core.release(OWNER, 9.0)
    assert (len(core.books), len(core.queue), core.index.expected_blocks) == (0, 0, 0)
    assert not core.books.placed.any()
    assert not core.books.queued_tokens.any()


def _run(events: list[tuple[str, int]], policy: str) -> tuple[list[tuple[str, str]], Scheduler]:
    """What became of every request, in order."""
    core = fleet_of(hello("w0", max_running=1), hello("w1", max_running=2), policy=policy)
    answers: list[tuple[str, str]] = []
    for number, (event, which) in enumerate(events):
        _happen(core, event, which, number, answers)
        answers += late(core).items()
    return answers, core


def _happen(
    core: Scheduler, event: str, which: int, number: int, answers: list[tuple[str, str]]
) -> None:
    match event:
        case "place":
            asked = request(f"r{number}", block_hashes=(which, which + 1))
            outcome = core.place(asked, 0.0)
            if not isinstance(outcome, Waiting):
                worker = getattr(outcome, "worker_id", type(outcome).__name__)
                answers.append((asked.key.request_id, worker))
        case "finish":
            core.finish(Key(OWNER, f"r{number - which}"), 0.0)
        case "join":
            core.join(hello(f"w{which % 3}", epoch=which), 0.0)
        case "release":
            core.release(OWNER, 0.0)
        case "tick":
            core.tick(0.0)
        case _:
            _happen_to_worker(core, event, which, number)


def _happen_to_worker(core: Scheduler, event: str, which: int, number: int) -> None:
    member = core.fleet.member(f"w{which % 3}")
    match event:
        case _ if member is None:
            return
        case "die":
            core.leave(member, 0.0)
        case "store":
            core.change(member, KvChange(sequence=number, snapshot=True, stored=(which,)), 0.0)
        case "report":
            core.report(member, Report(running_requests=which), 0.0)


@pytest.mark.parametrize("answer", [5, 128])
def test_a_burst_of_one_prompt_spreads_and_is_computed_once_a_worker(answer: int) -> None:
    roomy = {"max_running": 256, "capacity_blocks": 10_000}
    core = fleet_of(*(hello(f"w{n}", **roomy) for n in range(8)))
    prompt = {"prompt_tokens": 61, "block_hashes": tuple(range(15)), "max_tokens": answer}
    placed = [core.place(request(f"r{n}", **prompt), 0.0) for n in range(256)]
    computed = sum(61 - one.cached_tokens for one in placed if isinstance(one, Placed))
    assert max(core.books.placed[:8]) < 1.5 * 256 / 8
    assert computed == 8 * 61 + 248 * 1


def test_a_cold_engines_slow_first_steps_do_not_drive_its_prefix_away() -> None:
    core = fleet_of(hello("a"), hello("b"))
    blocks = (1, 2)
    first = core.place(request("first", block_hashes=blocks), now_s=0.0)
    assert isinstance(first, Placed)
    member = core.fleet.member(first.worker_id)
    assert member is not None
    core.change(member, KvChange(sequence=0, stored=blocks), now_s=0.5)
    slow = PrefillTiming(request_id="first", computed_tokens=11, prefill_us=900_000)
    core.report(member, Report(prefills=(slow,)), now_s=0.8)
    core.report(member, Report(steps=8, step_time_us=8 * 60_000, generated_tokens=8), now_s=0.9)
    core.finish(request("first").key, now_s=1.0)
    again = core.place(request("again", block_hashes=blocks), now_s=2.0)
    assert isinstance(again, Placed)
    assert (again.worker_id, again.cached_tokens) == (first.worker_id, 8)


def test_a_record_keeps_the_best_few_of_a_large_fleet() -> None:
    core = fleet_of(*(hello(f"w{number:02}") for number in range(40)))
    core.place(request(), now_s=0.0)
    [record] = core.decisions.last()
    assert len({each.worker_id for each in record.considered}) == 8
