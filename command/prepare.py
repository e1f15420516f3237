"""Puts the demo models into `$HEADWAY_MODELS`, for containers that share it.

python -m command.prepare
"""

import shutil

from command.models import EMBEDDING_NAMES, demo_model, embedding_model, models_home


def prepare() -> None:
    """Both models, each once."""
    print(demo_model())
    embedding = models_home() / EMBEDDING_NAMES[0]
    if not embedding.is_dir():
        unfinished = embedding.with_suffix(".copying")
        shutil.copytree(embedding_model(), unfinished, dirs_exist_ok=True)
        unfinished.rename(embedding)
    print(embedding)


if __name__ == "__main__":
    prepare()
