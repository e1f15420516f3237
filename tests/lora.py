"""Small random LoRA adapters in PEFT's form, and what transformers says with one merged in."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TARGETS = ("q_proj", "v_proj")


def write_adapter(directory: Path, model: Path, seed: int, rank: int = 4) -> Path:
    """An adapter of the model that changes what it says. Returns its directory."""
    import torch
    from safetensors.torch import save_file

    shape = json.loads((model / "config.json").read_text())
    hidden, head = shape["hidden_size"], shape["head_dim"]
    outputs = {
        "q_proj": shape["num_attention_heads"] * head,
        "v_proj": shape["num_key_value_heads"] * head,
    }
    chance = torch.Generator().manual_seed(seed)

    def weights(*size: int) -> Any:
        return torch.randn(size, generator=chance) * 0.2

    tensors = {}
    for layer in range(shape["num_hidden_layers"]):
        for target in TARGETS:
            name = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            tensors[f"{name}.lora_A.weight"] = weights(rank, hidden)
            tensors[f"{name}.lora_B.weight"] = weights(outputs[target], rank)
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": TARGETS}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def adapted_greedy_ids(
    model_dir: Path, adapter: Path, prompt_ids: Sequence[int], max_tokens: int
) -> list[int]:
    """The likeliest continuation, past end tokens, by the model with the adapter merged in."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model.eval()
    model.generation_config.eos_token_id = None
    tensors = load_file(adapter / "adapter_model.safetensors")
    prompt = torch.tensor([list(prompt_ids)])
    with torch.inference_mode():
        for layer, block in enumerate(model.model.layers):
            for target in TARGETS:
                name = f"base_model.model.model.layers.{layer}.self_attn.{target}"
                change = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
                getattr(block.self_attn, target).weight += change  # alpha is the rank: scale 1
        whole = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=max_tokens,
            do_sample=False,
        )
    ids: list[int] = whole[0, prompt.shape[1] :].tolist()
    return ids
