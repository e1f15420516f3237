"""The models that this service holds. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.tokenizer.hashing import HashChain
from services.tokenizer.outcomes import UnknownModel
from services.tokenizer.template import ChatTemplate
from services.tokenizer.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Model:
    """One model: its vocabulary, its chat template if it has one, and its prompts' hashes."""

    name: str
    aliases: tuple[str, ...]
    vocabulary: Vocabulary
    template: ChatTemplate | None
    chain: HashChain


class Models:
    """All models, found by any of their names."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = sorted(models, key=lambda model: model.name)
        self._by_name = {
            name: model for model in self._models for name in (model.name, *model.aliases)
        }

    def __iter__(self) -> Iterator[Model]:
        """Ordered by name."""
        return iter(self._models)

    def find(self, name: str) -> Model | UnknownModel:
        """The model of this name or alias."""
        found = self._by_name.get(name)
        return found if found is not None else UnknownModel(name, tuple(sorted(self._by_name)))
