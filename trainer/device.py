"""Which processor the trainer learns on: asked for and not there is an error, never a silent fallback.

Before: the setting `trainer.device`. After: the learner gets "cpu" or "cuda". Knows nothing of models.
"""

from __future__ import annotations

import torch

from headwater.errors import Unavailable

__all__ = ["choose_device"]


def choose_device(asked: str) -> str:
    """ "cpu" or "cuda" for the setting `auto`, `cpu` or `cuda`. Raises Unavailable for a GPU that torch cannot use."""
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU-only build"
        raise Unavailable(
            f"trainer.device is cuda and no GPU can be used (torch {torch.__version__} is {built}, and finds none). "
            "Set HEADWATER_TRAINER__DEVICE=cpu, or install a CUDA build of torch and a driver."
        )
    return "cuda" if there and asked != "cpu" else "cpu"
