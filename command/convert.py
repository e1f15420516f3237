"""Turns a GGUF file into a Hugging Face model directory. Run as a process of its own.

python -m command.convert FILE.gguf DIRECTORY
"""

import sys
from pathlib import Path


def convert(source: Path, directory: Path) -> None:
    """Write weights (bfloat16 safetensors), config, tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        # Without this transformers keeps the weights packed, and refuses to save them.
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(directory)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
