"""Chat templates: a conversation in, the prompt's text out. Pure.

The renderer is transformers' own, because what a template means is what transformers does.
"""

from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError
from jinja2.meta import find_undeclared_variables
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from services.tokenizer.conversation import (
    JsonObject,
    Unreadable,
    offered,
    read_object,
    spoken,
)
from services.tokenizer.outcomes import TemplateRefused
from services.tokenizer.prompt import Chat

# For models that have the marks but no template: a directory with tokenizer.json alone.
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_MARKS = ("<|im_start|>", "<|im_end|>")

# What a template may do wrong with a conversation that it was not written for.
_FAULTS = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)

# What templates read of how hard a model is to think.
_THINKING = ("reasoning_effort", "enable_thinking")

_VARIABLES = "the variables of the template"

# The renderer's own arguments.
_RESERVED = (
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversations",
    "messages",
    "return_assistant_tokens_mask",
    "tools",
)


class ChatTemplate:
    """One model's templates, by transformers' names: `default`, and perhaps `tool_use`."""

    def __init__(self, sources: Mapping[str, str], special_tokens: Mapping[str, str]) -> None:
        """Raises jinja2.TemplateSyntaxError for a source that is no template."""
        self._sources = sources
        self._special_tokens = special_tokens
        self._thinking: dict[str, set[str]] = {}  # what each template reads of it
        for source in sources.values():
            # What the renderer itself compiles once and keeps. Its globals are a ChainMap, which
            # every rendering would copy, item by item in Python.
            compiled = _compile_jinja_template(source)
            compiled.globals = dict(compiled.globals)
            read = find_undeclared_variables(compiled.environment.parse(source))
            self._thinking[source] = read.intersection(_THINKING)

    def render(self, chat: Chat) -> str | TemplateRefused:
        """The prompt's text, the same as transformers' `apply_chat_template` gives."""
        if not chat.messages:
            return TemplateRefused("a conversation needs at least one message")
        if chat.continue_final_message and chat.add_generation_prompt:
            return TemplateRefused(
                "continue_final_message and add_generation_prompt exclude one another"
            )
        if chat.reasoning_effort and not self._thinking[self._source(chat)]:
            message = "the model's chat template knows no reasoning effort"
            return TemplateRefused(message, "reasoning_effort")
        try:
            variables = self._variables(chat)
        except Unreadable as error:
            return TemplateRefused(str(error), error.parameter)
        return self._render(chat, variables)

    def _variables(self, chat: Chat) -> JsonObject:
        given = chat.template_kwargs_json
        chosen = read_object(given, _VARIABLES, "template_kwargs_json") if given else {}
        for name in _RESERVED:
            if name in chosen:
                raise Unreadable(f"{_VARIABLES} must not set {name}", "template_kwargs_json")
        tools = [offered(tool) for tool in chat.tools] or None
        return {**self._special_tokens, **self._effort(chat), **chosen, "tools": tools}

    def _effort(self, chat: Chat) -> JsonObject:
        effort = chat.reasoning_effort
        if not effort:
            return {}
        known = {"reasoning_effort": effort, "enable_thinking": effort != "none"}
        return {name: known[name] for name in self._thinking[self._source(chat)]}

    def _render(self, chat: Chat, variables: JsonObject) -> str | TemplateRefused:
        source = self._source(chat)
        opens = chat.add_generation_prompt is not False and not chat.continue_final_message
        try:
            rendered: Any = render_jinja_template(  # annotated as str, returns lists
                conversations=[[spoken(message) for message in chat.messages]],
                chat_template=source,
                add_generation_prompt=opens,
                continue_final_message=chat.continue_final_message,
                **variables,
            )
            text: str = rendered[0][0]
            if not text.isascii():
                text.encode()  # half a surrogate pair, from JSON, is no text
        except _FAULTS as error:
            return TemplateRefused(_why(error, source, chat))
        return text

    def _source(self, chat: Chat) -> str:
        default = self._sources["default"]
        return self._sources.get("tool_use", default) if chat.tools else default


def _why(error: Exception, source: str, chat: Chat) -> str:
    said = str(error)
    # A sentence of the template's own is safe to show; any other may quote the prompt.
    if isinstance(error, TemplateError) and said and said in source:
        return f"the chat template refused the conversation: {said}"
    if chat.continue_final_message:
        return "the chat template cannot leave the last message of this conversation open"
    return (
        f"the chat template cannot render this conversation ({type(error).__name__}): "
        "it may need a field that a message lacks"
    )
