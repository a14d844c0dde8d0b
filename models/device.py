"""Which processor torch learns on: one that is asked for and not there is an error, never a silent fallback."""

from __future__ import annotations

import torch

from headwater.errors import SettingsError

__all__ = ["choose_device"]


def choose_device(asked: str) -> str:
    """The processor that torch learns on.

    Parameters
        asked: `cpu`, `cuda`, or `auto`, which is cuda where there is one.

    Returns
        "cpu" or "cuda".

    Raises
        SettingsError: cuda is asked for and torch cannot use a GPU.
    """
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU-only build"
        raise SettingsError(
            f"trainer.device is cuda and no GPU can be used (torch {torch.__version__} is {built}, and finds none). "
            "Set HEADWATER_TRAINER__DEVICE=cpu, or install a CUDA build of torch and a driver."
        )
    return "cuda" if there and asked != "cpu" else "cpu"
