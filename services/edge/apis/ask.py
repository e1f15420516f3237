"""One generating HTTP request, whichever door it came through. Pure."""

from dataclasses import dataclass
from typing import Any

from headway.tokenizer.v1 import tokenizer_pb2 as tokenizer
from headway.worker.v1 import worker_pb2 as worker
from services.edge import wire
from services.edge.apis import events
from services.edge.apis.openai import (
    ChatBody,
    CompletionBody,
    Prompt,
    max_tokens,
    parse_chat,
    parse_completion,
    prompts,
)
from services.edge.apis.refusals import Invalid
from services.edge.apis.structure import constraint
from services.edge.apis.writing import Form
from services.edge.workers import Served

# Lower goes first, in the scheduler's queue and in the engine.
TIER_PRIORITY = {"priority": -1, "flex": 1}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client asked for, parsed and checked."""

    form: Form
    body: ChatBody | CompletionBody
    prompts: list[Prompt]  # empty for a chat, which is one prompt
    constraint: worker.Constraint | None = None

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

    @property
    def usage_in_each(self) -> bool:
        """Whether each event of a stream is to hold the usage so far."""
        options = self.body.stream_options
        return self.include_usage and options is not None and bool(options.continuous_usage_stats)

    @property
    def alternatives(self) -> int | None:
        """Likeliest alternatives to report for each token; None for no log-probabilities."""
        if isinstance(self.body, CompletionBody):
            return self.body.logprobs
        return (self.body.top_logprobs or 0) if self.body.logprobs else None

    @property
    def echo(self) -> bool:
        """Whether the answer is to begin with the prompt."""
        return isinstance(self.body, CompletionBody) and bool(self.body.echo)

    @property
    def only_echo(self) -> bool:
        """Whether the prompt is all that is wanted."""
        return self.body.max_tokens == 0

    @property
    def priority(self) -> int:
        """The request's priority class: its own, or that of its tier."""
        tier = self.body.service_tier if isinstance(self.body, ChatBody) else None
        return (self.body.priority or 0) + TIER_PRIORITY.get(tier or "", 0)

    @property
    def served_tier(self) -> str | None:
        """The tier that the answer names; None when none was asked for."""
        tier = self.body.service_tier if isinstance(self.body, ChatBody) else None
        return "default" if tier == "auto" else tier

    @property
    def constrained_by(self) -> str:
        """The parameter that asks for a form of the answer."""
        return "response_format" if self.body.structured_outputs is None else "structured_outputs"

    @property
    def labels(self) -> dict[str, str]:
        """What the caller wants to find the request by, in its trace."""
        labels: dict[str, Any] = {"headway.user": self.body.user}
        if isinstance(self.body, ChatBody):
            labels["headway.safety_identifier"] = self.body.safety_identifier
            given = self.body.metadata or {}
            labels |= {f"headway.metadata.{name}": value for name, value in given.items()}
        return {name: value for name, value in labels.items() if value is not None}

    def encodes(self, served: Served, traceparent: str) -> list[tokenizer.EncodeRequest]:
        """What to ask the tokenizer, one for each prompt."""
        if isinstance(self.body, ChatBody):
            return [wire.encode_chat(self.body, served, traceparent)]
        salt = self.body.cache_salt or ""
        return [wire.encode_prompt(prompt, served, traceparent, salt) for prompt in self.prompts]

    def sampling(self) -> worker.Sampling:
        """How the worker is to choose tokens."""
        limit = max_tokens(self.body)
        # No engine stops at once; the token that comes is dropped.
        sampling = wire.sampling_of(self.body, 1 if limit == 0 else limit)
        alternatives = self.alternatives
        if alternatives is not None:
            sampling.logprobs = alternatives
        told_of_prompt = (self.body.prompt_logprobs, alternatives if self.echo else None)
        asked = [each for each in told_of_prompt if each is not None]
        if asked:
            sampling.prompt_logprobs = max(asked)  # each telling takes its own number of them
        if self.constraint is not None:
            sampling.constraint.CopyFrom(self.constraint)
        return sampling

    def parsing(self) -> worker.Parsing | None:
        """What the worker is to tell apart in the answer; None for plain text."""
        return wire.parsing_of(self.body) if isinstance(self.body, ChatBody) else None

    def forget_prompts(self) -> None:
        """Drop the texts, once they are encoded: a stream may be long, and so may its prompt."""
        self.prompts.clear()
        if isinstance(self.body, ChatBody):
            self.body.messages.clear()
            self.body.tools = None
        else:
            self.body.prompt = ""


def chat_ask(body: bytes) -> Ask | Invalid:
    """Read `POST /v1/chat/completions`."""
    chat = parse_chat(body)
    return chat if isinstance(chat, Invalid) else ask_of(events.CHAT, chat, [])


def completion_ask(body: bytes) -> Ask | Invalid:
    """Read `POST /v1/completions`."""
    completion = parse_completion(body)
    if isinstance(completion, Invalid):
        return completion
    found = prompts(completion)
    return found if isinstance(found, Invalid) else ask_of(events.COMPLETION, completion, found)


def ask_of(form: Form, body: ChatBody | CompletionBody, prompts: list[Prompt]) -> Ask | Invalid:
    """What a body asks for, to be answered in that form."""
    form_of_answer = constraint(body.response_format, body.structured_outputs)
    if isinstance(form_of_answer, Invalid):
        return form_of_answer
    beyond = None if form_of_answer is None else _beyond_form(body)
    return beyond or Ask(form, body, prompts, form_of_answer)


def _beyond_form(body: ChatBody | CompletionBody) -> Invalid | None:
    """A form says when the answer is over. What comes after it, at their wish, follows no form."""
    if body.ignore_eos:
        return Invalid("ignore_eos is not allowed where the answer has a form", "ignore_eos")
    if body.min_tokens is not None and body.min_tokens > 1:
        message = "min_tokens may be 1 at most where the answer has a form"
        return Invalid(message, "min_tokens")
    return None
