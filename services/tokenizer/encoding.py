"""Encode one prompt: render, encode, check, hash. Pure; the clock is an argument."""

from collections.abc import Callable
from dataclasses import dataclass
from struct import pack

from services.blocks import chain_root
from services.tokenizer.encoder import Encoder
from services.tokenizer.models import Model, Models
from services.tokenizer.outcomes import EmptyPrompt, Encoded, Outcome, Refusal, TemplateRefused
from services.tokenizer.prompt import Chat, Prompt, Text, TokenIds
from services.tokenizer.template import ChatTemplate

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a prompt, and when, in nanoseconds of the caller's clock.

    Rendering went from `started_ns` to `rendered_ns`, the rest from there to `ended_ns`.
    """

    outcome: Outcome
    started_ns: int
    rendered_ns: int
    ended_ns: int


def encode(prompt: Prompt, models: Models, clock: Clock) -> Report:
    """The prompt's ids and block hashes, or why there are none."""
    started_ns = clock()
    model = models.find(prompt.model)
    if not isinstance(model, Model):
        return Report(model, started_ns, started_ns, started_ns)
    given = _rendered(prompt.input, model)
    rendered_ns = clock() if isinstance(prompt.input, Chat) else started_ns
    tokens = _token_ids(given, model, prompt.add_special_tokens)
    outcome = _hashed(tokens, prompt, model) if isinstance(tokens, bytes) else tokens
    return Report(outcome, started_ns, rendered_ns, clock())


@dataclass(frozen=True, slots=True)
class _Rendered:
    text: str
    encoder: Encoder


def _rendered(given: Chat | Text | TokenIds, model: Model) -> _Rendered | Text | TokenIds | Refusal:
    if not isinstance(given, Chat):
        return given
    if model.template is None:
        return TemplateRefused("the model has no chat template")
    if model.vocabulary.literals.spelled_in(given):
        return _rendered_as_text(given, model, model.template)
    text = model.template.render(given)
    return _Rendered(text, model.vocabulary.encoder) if isinstance(text, str) else text


def _rendered_as_text(
    chat: Chat, model: Model, template: ChatTemplate
) -> _Rendered | TemplateRefused:
    """As ever, but that special tokens which are spelled in the chat's texts stay text."""
    renamed = model.vocabulary.renamed
    if renamed is None:
        return TemplateRefused(
            "a text of this conversation spells a special token of the model, whose tokenizer "
            "cannot take it for text"
        )
    hidden = model.vocabulary.literals.hide(chat)
    text = template.render(hidden.chat)
    if not isinstance(text, str):
        return text
    return _Rendered(hidden.restore(renamed.rename(text)), renamed.encoder)


def _token_ids(
    given: _Rendered | Text | TokenIds | Refusal, model: Model, special: bool | None
) -> bytes | Refusal:
    match given:
        case _Rendered(text, encoder):
            # The template writes all special tokens itself.
            return encoder.encode(text, add_special_tokens=special is True)
        case Text(text):
            return model.vocabulary.encode(text, add_special_tokens=special is not False)
        case TokenIds(ids):
            return model.vocabulary.check(ids) or pack(f"<{len(ids)}I", *ids)
        case refusal:
            return refusal


def _hashed(tokens: bytes, prompt: Prompt, model: Model) -> Encoded | EmptyPrompt:
    if not tokens:
        return EmptyPrompt()
    # The main name, whatever alias was asked for: they share one cache.
    root = chain_root(model.name, prompt.adapter, prompt.cache_salt)
    return Encoded(model.name, tokens, model.chain.hash(tokens, root), model.chain.block_size)
