import asyncio
from collections.abc import AsyncIterator

from services.tokenizer.overtaking import overtake


class Line:
    """Questions that come when they are put, and answers that come when they are given."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[int | None] = asyncio.Queue()
        self.begun: dict[int, asyncio.Future[str]] = {}
        self.draining = asyncio.Event()

    def begin(self, question: int) -> "asyncio.Future[str]":
        self.begun[question] = asyncio.get_running_loop().create_future()
        return self.begun[question]

    def answers(self, limit: int) -> AsyncIterator[str]:
        return overtake(self.questions.get, self.begin, limit, self.draining)

    def ask(self, *questions: int | None) -> None:
        for question in questions:
            self.questions.put_nowait(question)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_later_answer_may_come_first() -> None:
    line = Line()
    line.ask(1, 2, None)
    answers = line.answers(limit=8)
    first = asyncio.ensure_future(anext(answers))
    await turns()
    line.begun[2].set_result("two")
    assert await first == "two"
    line.begun[1].set_result("one")
    assert [answer async for answer in answers] == ["one"]


async def test_no_more_are_begun_than_the_limit() -> None:
    line = Line()
    line.ask(1, 2, 3, None)
    answers = line.answers(limit=2)
    first = asyncio.ensure_future(anext(answers))
    await turns()
    assert set(line.begun) == {1, 2}
    line.begun[1].set_result("one")
    assert await first == "one"
    second = asyncio.ensure_future(anext(answers))
    await turns()
    assert set(line.begun) == {1, 2, 3}
    line.begun[2].set_result("two")
    assert await second == "two"
    line.begun[3].set_result("three")
    assert [answer async for answer in answers] == ["three"]


async def test_draining_answers_what_was_begun_and_reads_no_more() -> None:
    line = Line()
    line.ask(1)
    answers = line.answers(limit=8)
    first = asyncio.ensure_future(anext(answers))
    await turns()
    line.draining.set()
    await turns()
    line.ask(2)
    line.begun[1].set_result("one")
    assert await first == "one"
    assert [answer async for answer in answers] == []
    assert set(line.begun) == {1}


async def test_draining_ends_an_idle_line() -> None:
    line = Line()
    waiting = asyncio.ensure_future(anext(line.answers(limit=8), None))
    await turns()
    line.draining.set()
    assert await waiting is None


async def test_a_line_opened_while_draining_ends_at_once() -> None:
    line = Line()
    line.draining.set()
    assert [answer async for answer in line.answers(limit=8)] == []
