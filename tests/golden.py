"""What a model says without vLLM and without Headway: transformers, float32, greedy."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any


@lru_cache(maxsize=1)
def _model(directory: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model.eval()


def greedy_ids(model_dir: Path, prompt_ids: Sequence[int], max_tokens: int) -> list[int]:
    """The likeliest continuation, its end token included if it comes. The model stays loaded."""
    import torch

    model = _model(Path(model_dir))
    prompt = torch.tensor([list(prompt_ids)])
    with torch.inference_mode():
        whole = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=max_tokens,
            do_sample=False,
        )
    ids: list[int] = whole[0, prompt.shape[1] :].tolist()
    return ids
