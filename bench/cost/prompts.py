"""The prompts that all workloads have in common: 300 tokens, of which a part is shared."""

from random import Random

MODEL = "smollm2"
PROMPT_TOKENS = 300
BLOCKS = PROMPT_TOKENS // 16
_WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world")


def text(number: int) -> str:
    """A prompt of about 300 tokens, the same whenever it is asked for."""
    return " ".join(Random(number).choices(_WORDS, k=PROMPT_TOKENS - 10))
