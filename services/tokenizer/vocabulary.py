"""One model's vocabulary: text to ids, ids to text, and which ids there are. Pure."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from services.tokenizer.decoding import whole_characters
from services.tokenizer.encoder import Encoder
from services.tokenizer.literals import Literals
from services.tokenizer.outcomes import OutsideVocabulary
from services.tokenizer.renaming import Renamed


class Vocabulary:
    """What the model's tokenizer.json says.

    `renamed` is for chats whose texts spell special tokens; without it they are refused.
    """

    def __init__(
        self, tokenizer: Tokenizer, encoder: Encoder, renamed: Renamed | None = None
    ) -> None:
        self._tokenizer = tokenizer
        special = {
            token_id: token
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        self._special = special.keys()
        self.encoder = encoder
        normalized = tokenizer.normalizer and any(each.normalized for each in special.values())
        self.literals = Literals(
            [token.content for token in special.values()],
            tokenizer.normalizer.normalize_str if normalized else None,
        )
        self.renamed = renamed
        self.size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, text: str, add_special_tokens: bool) -> bytes:
        """The text's ids, four bytes each, little-endian."""
        return self.encoder.encode(text, add_special_tokens)

    def check(self, ids: Sequence[int]) -> OutsideVocabulary | None:
        """Name an id that the model does not have; None when it has all."""
        largest = max(ids, default=0)
        return OutsideVocabulary(largest, self.size) if largest >= self.size else None

    def decode(self, ids: Sequence[int], keep_special_tokens: bool) -> str | OutsideVocabulary:
        """The text of the ids; a character cut at the end is left out."""
        outside = self.check(ids)
        if outside is not None:
            return outside
        if not keep_special_tokens:
            ids = [token_id for token_id in ids if token_id not in self._special]
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        return whole_characters(self._tokenizer, ids, text)

    def spell(self, ids: Sequence[int]) -> list[str]:
        """What the vocabulary calls each id; empty where it calls it nothing."""
        return [self._tokenizer.id_to_token(token_id) or "" for token_id in ids]
