"""The responses that are kept, so that a later request may read or continue them. Pure.

Bounded in number and bytes: the one that was not used for the longest time goes first. A kept
conversation is counted whole in each of its responses, also where they share it: what is counted
is never less than what is held.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from sys import getsizeof

from services.edge.apis.openai import Message, text_of
from services.edge.apis.response_items import Listed, response_of

COUNT_LIMIT = 10_000
ENTRY_BYTES = 2_048  # of the objects around the texts


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request and its answer added to the conversation before them."""

    added: tuple[Message, ...]
    earlier: "Conversation | None" = None
    asked: tuple[Listed, ...] = ()  # the items of the request
    answered: tuple[Listed, ...] = ()

    def messages(self) -> Iterator[Message]:
        """All messages, in order."""
        for each in self._links():
            yield from each.added

    def items(self) -> Iterator[Listed]:
        """All items, in order."""
        for each in self._links():
            yield from each.asked
            yield from each.answered

    def before_the_answer(self) -> list[Listed]:
        """What the last answer is one to."""
        earlier = () if self.earlier is None else self.earlier.items()
        return [*earlier, *self.asked]

    def _links(self) -> Iterator["Conversation"]:
        chain = []
        conversation: Conversation | None = self
        while conversation is not None:
            chain.append(conversation)
            conversation = conversation.earlier
        return reversed(chain)


@dataclass(frozen=True, slots=True)
class Kept:
    """A response as JSON, and the conversation that ends with it."""

    response: bytes
    conversation: Conversation

    def size_bytes(self) -> int:
        """What it holds in memory, roughly, and rather more than less."""
        messages = sum(map(_size, self.conversation.messages()))
        items = sum(128 + len(each.json) for each in self.conversation.items())
        return ENTRY_BYTES + len(self.response) + messages + items


def _size(message: Message) -> int:
    texts = [text_of(message.content), message.reasoning_content]
    calls = message.tool_calls or ()
    texts += [text for call in calls for text in (call.function.name, call.function.arguments)]
    return 512 + sum(getsizeof(text) for text in texts if text is not None)


class Shelf:
    """The kept responses of one edge, by tenant and id. Written by the event loop alone."""

    def __init__(self, limit_bytes: int, limit: int = COUNT_LIMIT) -> None:
        self._limit_bytes = limit_bytes
        self._limit = limit
        self._kept: OrderedDict[tuple[str, str], tuple[Kept, int]] = OrderedDict()
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def keeps_nothing(self) -> bool:
        """Whether it was given no room."""
        return not self._limit_bytes

    def keep(self, tenant: str, response_id: str, kept: Kept) -> None:
        """Put a response on the shelf; one that is larger than the shelf is not kept."""
        size = kept.size_bytes()
        if size > self._limit_bytes:
            return
        self.forget(tenant, response_id)
        self._kept[tenant, response_id] = kept, size
        self.held_bytes += size
        while self.held_bytes > self._limit_bytes or len(self._kept) > self._limit:
            _, (_, freed) = self._kept.popitem(last=False)
            self.held_bytes -= freed

    def find(self, tenant: str, response_id: str) -> Kept | None:
        """A tenant's response; to find it is to use it."""
        found = self._kept.get((tenant, response_id))
        if found is None:
            return None
        self._kept.move_to_end((tenant, response_id))
        return found[0]

    def find_item(self, tenant: str, item_id: str) -> Listed | None:
        """An item of a tenant's response, or of the request for it."""
        kept = self.find(tenant, response_of(item_id))
        if kept is None:
            return None
        own = (*kept.conversation.asked, *kept.conversation.answered)
        return next((each for each in own if each.item_id == item_id), None)

    def forget(self, tenant: str, response_id: str) -> bool:
        """Take a response off the shelf; false when it is not there."""
        found = self._kept.pop((tenant, response_id), None)
        if found is None:
            return False
        self.held_bytes -= found[1]
        return True
