"""One generating HTTP request, whichever door it came through. Pure."""

from dataclasses import dataclass

from headway.tokenizer.v1 import tokenizer_pb2 as tokenizer
from headway.worker.v1 import worker_pb2 as worker
from services.edge import events, wire
from services.edge.openai import (
    ChatBody,
    CompletionBody,
    Prompt,
    max_tokens,
    parse_chat,
    parse_completion,
    prompts,
)
from services.edge.refusals import Invalid
from services.edge.workers import Served


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client asked for, parsed and checked."""

    form: events.Form
    body: ChatBody | CompletionBody
    prompts: list[Prompt]  # empty for a chat, which is one prompt

    @property
    def model(self) -> str:
        """The name of the model, as it was asked for."""
        return self.body.model

    @property
    def choices(self) -> int:
        """Choices for each prompt."""
        return self.body.n or 1

    @property
    def stream(self) -> bool:
        """Whether to answer with events."""
        return bool(self.body.stream)

    @property
    def include_usage(self) -> bool:
        """Whether a stream is to end with the usage."""
        options = self.body.stream_options
        return options is not None and bool(options.include_usage)

    def encodes(self, served: Served, traceparent: str) -> list[tokenizer.EncodeRequest]:
        """What to ask the tokenizer, one for each prompt."""
        if isinstance(self.body, ChatBody):
            return [wire.encode_chat(self.body, served, traceparent)]
        return [
            wire.encode_prompt(self.body, prompt, served, traceparent) for prompt in self.prompts
        ]

    def sampling(self) -> worker.Sampling:
        """How the worker is to choose tokens."""
        return wire.sampling_of(self.body, max_tokens(self.body))

    def forget_prompts(self) -> None:
        """Drop the texts, once they are encoded: a stream may be long, and so may its prompt."""
        self.prompts.clear()
        if isinstance(self.body, ChatBody):
            self.body.messages.clear()
        else:
            self.body.prompt = ""


def chat_ask(body: bytes) -> Ask | Invalid:
    """Read `POST /v1/chat/completions`."""
    chat = parse_chat(body)
    return chat if isinstance(chat, Invalid) else Ask(events.CHAT, chat, [])


def completion_ask(body: bytes) -> Ask | Invalid:
    """Read `POST /v1/completions`."""
    completion = parse_completion(body)
    if isinstance(completion, Invalid):
        return completion
    found = prompts(completion)
    return found if isinstance(found, Invalid) else Ask(events.COMPLETION, completion, found)
