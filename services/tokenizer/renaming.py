"""A vocabulary with the ids of another, in which special tokens have names that no text has. Pure.

With it, a text that spells special tokens is encoded in one pass with those that its template
wrote: merges, and what a token strips around it, come out as ever.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from services.tokenizer.encoder import Encoder, ReferenceEncoder


@dataclass(frozen=True, slots=True)
class Renamed:
    """Encodes texts in which the special tokens were renamed by `rename`."""

    encoder: Encoder
    names: Mapping[str, str]
    _pattern: re.Pattern[str]

    def rename(self, text: str) -> str:
        """The text, every special token in it renamed."""
        return self._pattern.sub(lambda token: self.names[token[0]], text)


def rename_special(tokenizer: Tokenizer, nonce: str) -> Renamed | None:
    """The same vocabulary with special tokens named by the nonce, which no caller may guess.

    None if this vocabulary cannot be so renamed that their ids stay what they are.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    special = sorted(token.content for token in added if token.special)
    names = {content: f"<{nonce}{place:05}>" for place, content in enumerate(special)}
    # Matched with the special ones, the longest first: a token may have a special one within it.
    others = (token.content for token in added if not token.special and not token.normalized)
    every = {**{content: content for content in others}, **names}
    if any(token.special and token.single_word for token in added):
        return None  # whether it is a token depends on what is around it
    try:
        renamed = Tokenizer.from_str(json.dumps(_renamed(json.loads(tokenizer.to_str()), names)))
    except Exception:  # noqa: BLE001 -- the library raises Exception itself, for everything
        return None
    if any(_ids(renamed, name) != _ids(tokenizer, content) for content, name in names.items()):
        return None
    longest_first = sorted(map(re.escape, every), key=len, reverse=True)
    pattern = re.compile("|".join(longest_first) or r"(?!)")
    return Renamed(ReferenceEncoder(renamed), every, pattern)


def _ids(tokenizer: Tokenizer, token: str) -> tuple[int | None, list[int]]:
    return tokenizer.token_to_id(token), tokenizer.encode(token, add_special_tokens=False).ids


def _renamed(file: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """What tokenizer.json says, the tokens renamed wherever it goes by their names."""
    for token in file["added_tokens"]:
        if token["special"]:
            token["content"] = names[token["content"]]
    model = file["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): place for token, place in vocabulary.items()}
    else:  # Unigram's
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if model.get("unk_token"):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if _stays(merge, names)]
    return file


def _stays(merge: list[str], names: Mapping[str, str]) -> bool:
    """Whether a merge is of text only: one into a special token would never have been reached."""
    left, right = merge
    return names.keys().isdisjoint((left, right, left + right))
