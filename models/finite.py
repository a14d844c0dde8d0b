"""Whether weights are numbers: what a guard, a parity check and a scorer ask before they trust them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["not_finite"]


def not_finite(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """What holds NaN or infinity.

    Parameters
        arrays: by name, of any shape and dtype; those that are not floating point are passed over.

    Returns
        The first such array, in words; None when all is finite.

    >>> not_finite({"bias": np.array([1.0, np.nan]), "ids": np.array([3])})
    '1 of 2 numbers of bias are NaN or infinite'
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).sum())
            return f"{bad} of {array.size} numbers of {name} are NaN or infinite"
    return None
