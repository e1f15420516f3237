"""The books: nothing negative, nothing lost, whatever happens in whatever order."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scheduler.books import Books, Placement
from services.scheduler.facts import Key, Kind, Pool, Report

SLOTS = 3
NOW_S = 5.0
POOL = Pool("m", "", Kind.GENERATE)
WORKER = st.integers(0, SLOTS - 1)
KEY = st.builds(Key, st.integers(1, 2), st.sampled_from("rst"))


def placement(key: Key, worker: int, epoch: int = 1, tokens: int = 10) -> Placement:
    return Placement(
        key=key,
        pool=POOL,
        worker_id=f"w{worker}",
        epoch=epoch,
        uncached_tokens=tokens,
        decode_tokens=5,
        lease_end_s=9.0,
    )


def columns(books: Books, slot: int) -> tuple[int, ...]:
    sums = (books.placed, books.waiting, books.queued_tokens, books.decode_tokens)
    return tuple(int(column[slot]) for column in sums)


def books_with(*placements: Placement) -> Books:
    books = Books(SLOTS)
    for one in placements:
        books.place(one, int(one.worker_id[1:]), NOW_S)
    return books


def test_a_placement_counts_at_once() -> None:
    assert columns(books_with(placement(Key(1, "r"), 0)), 0) == (1, 1, 10, 5)


def test_a_prefill_takes_the_prompt_off_and_leaves_the_decode() -> None:
    books = books_with(placement(Key(1, "r"), 0))
    books.prefilled("w0", "r", NOW_S)
    books.prefilled("w0", "r", NOW_S)
    assert columns(books, 0) == (1, 0, 0, 5)


def test_the_first_in_line_is_computed_and_since_it_is_the_first() -> None:
    books = books_with(placement(Key(1, "r"), 0), placement(Key(1, "s"), 0, tokens=20))
    assert (books.head_tokens[0], books.heard_s[0]) == (10, NOW_S)
    books.prefilled("w0", "r", NOW_S + 1)
    assert (books.head_tokens[0], books.heard_s[0]) == (20, NOW_S + 1)
    books.finish(Key(1, "s"), NOW_S + 2)
    assert books.head_tokens[0] == 0


def test_one_that_overtakes_does_not_change_who_is_computed() -> None:
    books = books_with(placement(Key(1, "r"), 0), placement(Key(1, "s"), 0, tokens=20))
    books.prefilled("w0", "s", NOW_S + 1)
    assert (books.head_tokens[0], books.heard_s[0]) == (10, NOW_S + 1)


def test_two_reports_without_a_queue_mean_that_older_prompts_are_computed() -> None:
    books = books_with(placement(Key(1, "r"), 0))
    idle = Report(running_requests=1)
    books.correct(0, idle, NOW_S + 0.4)
    books.correct(0, idle, NOW_S + 0.6)
    assert columns(books, 0) == (1, 1, 10, 5)  # it may be on its way still
    books.correct(0, idle, NOW_S + 0.8)
    assert columns(books, 0) == (1, 0, 0, 5)


def test_a_queue_in_between_says_nothing_of_it() -> None:
    books = books_with(placement(Key(1, "r"), 0))
    for after_s in range(1, 9):
        queued = 10 if after_s % 2 else 0
        books.correct(0, Report(running_requests=1, queued_prefill_tokens=queued), NOW_S + after_s)
    assert columns(books, 0) == (1, 1, 10, 5)


def test_tokens_are_from_elsewhere_only_if_requests_are() -> None:
    books = books_with(placement(Key(1, "r"), 0))
    for _ in range(3):  # the worker does not know yet what of it is cached
        books.correct(0, Report(waiting_requests=1, queued_prefill_tokens=9000), NOW_S)
    assert books.tokens_ahead[0] == 10


def test_two_owners_may_use_one_id() -> None:
    books = books_with(placement(Key(1, "r"), 0), placement(Key(2, "r"), 0))
    books.finish(Key(2, "r"), NOW_S)
    books.leave(0, "w0", NOW_S)
    assert columns(books, 0) == (0, 0, 0, 0)
    books.finish(Key(1, "r"), NOW_S)
    assert len(books) == 0


def test_a_worker_that_is_back_in_the_same_epoch_has_its_work_again() -> None:
    books = books_with(placement(Key(1, "r"), 0))
    books.leave(0, "w0", NOW_S)
    books.join(2, "w0", epoch=1, now_s=NOW_S)
    assert (columns(books, 0), columns(books, 2)) == ((0, 0, 0, 0), (1, 1, 10, 5))


def test_a_worker_of_a_new_epoch_starts_empty() -> None:
    books = books_with(placement(Key(1, "r"), 0))
    books.leave(0, "w0", NOW_S)
    books.join(0, "w0", epoch=2, now_s=NOW_S)
    assert columns(books, 0) == (0, 0, 0, 0)
    assert books.finish(Key(1, "r"), NOW_S) is not None


def test_a_report_of_nothing_does_not_empty_the_books() -> None:
    books = books_with(placement(Key(1, "r"), 0))
    for _ in range(3):
        books.correct(0, Report(), NOW_S)
    assert columns(books, 0) == (1, 1, 10, 5)
    assert (books.foreign_requests[0], books.foreign_tokens[0]) == (0, 0)


def test_work_that_came_another_way_counts_once_it_is_reported_twice() -> None:
    books = books_with(placement(Key(1, "r"), 0))
    report = Report(running_requests=3, waiting_requests=1, queued_prefill_tokens=50)
    books.correct(0, report, NOW_S)
    assert books.foreign_requests[0] == 0
    books.correct(0, report, NOW_S)
    assert (books.foreign_requests[0], books.foreign_tokens[0]) == (3, 40)


def test_only_leases_that_have_ended_are_over() -> None:
    books = books_with(placement(Key(1, "r"), 0))
    assert books.over_lease(8.9) == []
    assert books.over_lease(9.0) == [Key(1, "r")]
    books.finish(Key(1, "r"), NOW_S)
    assert books.over_lease(9.0) == []


class InAnyOrder(RuleBasedStateMachine):
    """The model keeps the open placements; every sum is taken afresh from it."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books(SLOTS)
        self.live = dict.fromkeys(range(SLOTS), 1)  # worker to epoch
        self.open: dict[Key, Placement] = {}

    @rule(key=KEY, worker=WORKER, tokens=st.integers(0, 20))
    def place(self, key: Key, worker: int, tokens: int) -> None:
        if worker not in self.live:
            return
        self.finish(key)
        self.open[key] = placement(key, worker, self.live[worker], tokens)
        self.books.place(self.open[key], worker, NOW_S)

    @rule(key=KEY)
    def finish(self, key: Key) -> None:
        assert self.books.finish(key, NOW_S) is self.open.pop(key, None)

    @rule(worker=WORKER, request_id=st.sampled_from("rst"))
    def prefill(self, worker: int, request_id: str) -> None:
        self.books.prefilled(f"w{worker}", request_id, NOW_S)

    @rule(worker=WORKER, running=st.integers(0, 9), tokens=st.integers(0, 99))
    def report(self, worker: int, running: int, tokens: int) -> None:
        if worker in self.live:
            report = Report(running_requests=running, queued_prefill_tokens=tokens)
            self.books.correct(worker, report, NOW_S)

    @rule(worker=WORKER)
    def die(self, worker: int) -> None:
        if self.live.pop(worker, None):
            self.books.leave(worker, f"w{worker}", NOW_S)

    @rule(worker=WORKER, epoch=st.integers(1, 2))
    def join(self, worker: int, epoch: int) -> None:
        if worker not in self.live:
            self.live[worker] = epoch
            self.books.join(worker, f"w{worker}", epoch, NOW_S)

    @rule(owner=st.integers(1, 2))
    def release(self, owner: int) -> None:
        held = self.books.held_by(owner)
        assert sorted(held) == sorted(key for key in self.open if key.owner == owner)
        for key in held:
            self.finish(key)

    @invariant()
    def sums_agree(self) -> None:
        assert len(self.books) == len(self.open)
        for worker in range(SLOTS):
            assert columns(self.books, worker) == self._sums(worker)
            foreign = self.books.foreign_requests[worker], self.books.foreign_tokens[worker]
            assert min(foreign) >= 0
            assert self.books.requests[worker] == self.books.placed[worker] + foreign[0]
            assert self.books.tokens_ahead[worker] == self.books.queued_tokens[worker] + foreign[1]

    def _sums(self, worker: int) -> tuple[int, ...]:
        epoch = self.live.get(worker)
        here = [
            one
            for one in self.open.values()
            if one.worker_id == f"w{worker}" and one.epoch == epoch
        ]
        ahead = [one for one in here if not one.prefilled]
        tokens = sum(one.uncached_tokens for one in ahead)
        return len(here), len(ahead), tokens, sum(one.decode_tokens for one in here)


TestInAnyOrder = InAnyOrder.TestCase
