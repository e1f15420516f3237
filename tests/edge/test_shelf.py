"""The kept responses: what is found, for whom, and what goes when there is no room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.apis.openai import Message
from services.edge.apis.refusals import Invalid, UnknownResponse
from services.edge.lookups import input_items
from services.edge.lookups import kept as look_up
from services.edge.shelf import ENTRY_BYTES, Conversation, Kept, Shelf


def kept(text: str = "hi", earlier: Kept | None = None) -> Kept:
    said = (Message("user", text), Message("assistant", text))
    return Kept(b"{}", Conversation(said, None if earlier is None else earlier.conversation))


def test_a_conversation_is_in_order() -> None:
    third = kept("c", kept("b", kept("a")))
    assert "".join(str(each.content) for each in third.conversation.messages()) == "aabbcc"


def test_what_a_conversation_holds_is_counted_in_each_of_its_responses() -> None:
    first = kept("a" * 1000)
    assert kept("b", first).size_bytes() > first.size_bytes() > 2 * 1000


def test_a_tenant_finds_its_own_alone() -> None:
    shelf = Shelf(10**6)
    shelf.keep("a", "r", kept())
    assert shelf.find("a", "r") is not None
    assert shelf.find("b", "r") is None
    assert not shelf.forget("b", "r")
    assert shelf.forget("a", "r")
    assert (len(shelf), shelf.held_bytes) == (0, 0)


def test_the_one_that_was_not_used_for_the_longest_time_goes_first() -> None:
    shelf = Shelf(10**6, limit=2)
    shelf.keep("", "old", kept())
    shelf.keep("", "new", kept())
    shelf.find("", "old")
    shelf.keep("", "newest", kept())
    assert shelf.find("", "new") is None
    assert shelf.find("", "old") is not None


def test_one_that_is_larger_than_the_shelf_is_not_kept_and_costs_no_other() -> None:
    shelf = Shelf(2 * ENTRY_BYTES + 4096)
    shelf.keep("", "small", kept())
    shelf.keep("", "large", kept("x" * 10_000))
    assert shelf.find("", "large") is None
    assert shelf.find("", "small") is not None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5000)), max_size=40))
def test_it_never_holds_more_than_its_limit(puts: list[tuple[str, int]]) -> None:
    shelf = Shelf(20_000, limit=4)
    for name, length in puts:
        shelf.keep("", name, kept("x" * length))
        held = [each for each in map(lambda n: shelf.find("", n), "abcdef") if each is not None]
        assert shelf.held_bytes == sum(each.size_bytes() for each in held) <= 20_000
        assert len(shelf) == len(held) <= 4


@pytest.mark.parametrize(
    ("method", "response_id", "query", "outcome"),
    [
        pytest.param("GET", "r", "", bytes, id="read"),
        pytest.param("HEAD", "r", "", bytes, id="looked-at"),
        pytest.param("DELETE", "r", "", bytes, id="deleted"),
        pytest.param("GET", "other", "", UnknownResponse, id="unknown"),
        pytest.param("DELETE", "other", "", UnknownResponse, id="unknown-to-delete"),
        pytest.param("POST", "r", "", Invalid, id="over"),
        pytest.param("POST", "other", "", UnknownResponse, id="unknown-to-cancel"),
        pytest.param("GET", "r", "stream=true", Invalid, id="a-query"),
        pytest.param("GET", "r", "\xff=%ff", Invalid, id="a-query-of-any-bytes"),
    ],
)
def test_what_is_looked_up(method: str, response_id: str, query: str, outcome: type) -> None:
    shelf = Shelf(10**6)
    shelf.keep("", "r", kept())
    assert isinstance(look_up(shelf, "", method, response_id, query), outcome)


@pytest.mark.parametrize(
    ("response_id", "query", "outcome"),
    [
        pytest.param("r", "", bytes, id="all"),
        pytest.param("other", "", UnknownResponse, id="unknown"),
        pytest.param("r", "limit=0", Invalid, id="a-limit-of-none"),
        pytest.param("r", "limit=many", Invalid, id="no-limit"),
        pytest.param("r", "order=up", Invalid, id="no-order"),
        pytest.param("r", "after=none", Invalid, id="after-nothing"),
        pytest.param("r", "include=x", Invalid, id="more-than-a-page"),
        pytest.param("r", "\xff=%ff", Invalid, id="a-query-of-any-bytes"),
    ],
)
def test_what_a_response_answered_is_looked_up(response_id: str, query: str, outcome: type) -> None:
    shelf = Shelf(10**6)
    shelf.keep("", "r", kept())
    assert isinstance(input_items(shelf, "", "GET", response_id, query), outcome)
