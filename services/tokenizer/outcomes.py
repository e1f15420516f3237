"""What becomes of a prompt: the whole vocabulary. Pure."""

from dataclasses import dataclass

from services.blocks import TOKEN_BYTES


@dataclass(frozen=True, slots=True)
class Encoded:
    """The prompt's token ids and block hashes, both in the wire's little-endian form."""

    model: str  # its main name
    token_ids: bytes
    block_hashes: bytes
    block_size: int

    @property
    def tokens(self) -> int:
        """How many there are."""
        return len(self.token_ids) // TOKEN_BYTES


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """No vocabulary goes by this name; `known` are those that do."""

    name: str
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TemplateRefused:
    """The conversation cannot be rendered. `why` holds no prompt text.

    `parameter` is what of the chat is at fault, where it is not the conversation.
    """

    why: str
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class OutsideVocabulary:
    """A token id that the model does not have."""

    token_id: int
    vocabulary_size: int


@dataclass(frozen=True, slots=True)
class EmptyPrompt:
    """The prompt has no tokens."""


Refusal = UnknownModel | TemplateRefused | OutsideVocabulary | EmptyPrompt
Outcome = Encoded | Refusal
