"""The ways to ask for generated text: what is read there, and how it is refused. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from services.edge.apis import message_events
from services.edge.apis.ask import Ask, chat_ask, completion_ask
from services.edge.apis.message_events import MESSAGES
from services.edge.apis.messages import in_messages_words, read_messages
from services.edge.apis.openai import Message
from services.edge.apis.refusals import Answer, Invalid, Refusal, UnknownItem, answer
from services.edge.apis.response_events import Keep, ResponsesForm
from services.edge.apis.response_items import asked_items, listed
from services.edge.apis.responses import Referring, ResponsesAsk, in_responses_words, read_responses
from services.edge.shelf import Conversation, Kept, Shelf
from services.edge.tenants import Headers, bearer, key_or_bearer

Read = TypeVar("Read")


class Api(Protocol[Read]):
    """One API of those that generate."""

    @property
    def endpoint(self) -> str:
        """Its name in metrics, traces and logs."""

    def authorization(self, asked: Headers) -> str:
        """What the caller shows, as the `Authorization` header has it."""

    def read(self, body: bytes) -> Read | Invalid:
        """Read a body; a large one in a thread, so nothing else is looked at."""

    def ask(self, read: Read, tenant: str) -> Ask | Refusal:
        """What is asked, by this tenant."""

    def refused(self, refusal: Refusal) -> Answer:
        """The answer to a refusal."""


@dataclass(frozen=True, slots=True)
class OpenAI:
    """Chat or plain completions: functions as they are, since most requests pass here."""

    endpoint: str
    read: Callable[[bytes], Ask | Invalid]
    authorization: Callable[[Headers], str] = bearer
    refused: Callable[[Refusal], Answer] = answer

    def ask(self, read: Ask, tenant: str) -> Ask:
        """What was read: nothing is remembered."""
        return read


@dataclass(frozen=True, slots=True)
class Responses:
    """OpenAI's Responses API, which remembers."""

    shelf: Shelf
    endpoint: str = "responses"

    def authorization(self, asked: Headers) -> str:
        """The header itself."""
        return bearer(asked)

    def read(self, body: bytes) -> ResponsesAsk | Referring | Invalid:
        """Read a body."""
        return read_responses(body)

    def ask(self, read: ResponsesAsk | Referring, tenant: str) -> Ask | Refusal:
        """What is asked, with the items that it refers to, after the response that it continues."""
        resolved = self._resolved(read, tenant) if isinstance(read, Referring) else read
        return self._ask(resolved, tenant) if isinstance(resolved, ResponsesAsk) else resolved

    def _resolved(self, read: Referring, tenant: str) -> ResponsesAsk | Refusal:
        found: dict[int, dict[str, Any]] = {}
        for place, item_id in read.ids.items():
            item = self.shelf.find_item(tenant, item_id)
            if item is None:
                return UnknownItem(item_id)
            found[place] = msgspec.json.decode(item.json)
        return read.resolved(found)

    def _ask(self, read: ResponsesAsk, tenant: str) -> Ask | Invalid:
        body = read.body
        earlier: Conversation | None = None
        if body.store and self.shelf.keeps_nothing:
            return Invalid("store is not supported: this server keeps no responses", "store")
        if body.previous_response_id is not None:
            kept = self.shelf.find(tenant, body.previous_response_id)
            if kept is None:
                return _unknown_previous(body.previous_response_id)
            earlier = kept.conversation
        keep = None
        if body.store is not False and not self.shelf.keeps_nothing:
            keep = self._keeping(tenant, read, earlier)
        before = () if earlier is None else earlier.messages()
        return read.continuing(before, ResponsesForm(body, keep))

    def _keeping(self, tenant: str, read: ResponsesAsk, earlier: Conversation | None) -> Keep:
        own, items = read.own, read.items  # and not the ask, which holds what was before, too

        def keep(
            response_id: str, response: bytes, output: Sequence[Mapping[str, Any]], said: Message
        ) -> None:
            asked = asked_items(response_id, items)
            answered = tuple(map(listed, output))
            conversation = Conversation((*own, said), earlier, asked, answered)
            self.shelf.keep(tenant, response_id, Kept(response, conversation))

        return keep

    def refused(self, refusal: Refusal) -> Answer:
        """The answer to a refusal."""
        return answer(in_responses_words(refusal) if isinstance(refusal, Invalid) else refusal)


@dataclass(frozen=True, slots=True)
class Messages:
    """Anthropic's Messages API."""

    endpoint: str = "messages"

    def authorization(self, asked: Headers) -> str:
        """The header, or Anthropic's own for a key."""
        return key_or_bearer(asked)

    def read(self, body: bytes) -> Ask | Invalid:
        """Read a body."""
        return read_messages(body, MESSAGES)

    def ask(self, read: Ask, tenant: str) -> Ask:
        """What was read: nothing is remembered."""
        return read

    def refused(self, refusal: Refusal) -> Answer:
        """The answer to a refusal."""
        worded = in_messages_words(refusal) if isinstance(refusal, Invalid) else refusal
        return message_events.answer(worded)


def apis(shelf: Shelf) -> dict[str, Api[Any]]:
    """All of them, by path."""
    return {
        "/v1/chat/completions": OpenAI("chat", chat_ask),
        "/v1/completions": OpenAI("text_completion", completion_ask),
        "/v1/responses": Responses(shelf),
        "/v1/messages": Messages(),
    }


def _unknown_previous(response_id: str) -> Invalid:
    return Invalid(
        f"Previous response with id '{response_id}' not found.",
        "previous_response_id",
        "previous_response_not_found",
    )
