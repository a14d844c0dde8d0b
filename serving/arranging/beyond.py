"""Beyond the model: items that the catalogue has and the model does not know yet, which a list may go on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from serving.filters import Mask

__all__ = ["Beyond"]

Slots = npt.NDArray[np.int64]


class Beyond(NamedTuple):
    """Items without a row, as slots of the catalogue.

    Fields
        allowed: () -> those that the rules leave, (slots,) bool.
        best: (mask, count) -> the best of these of them, best first, at most so many.
    """

    allowed: Callable[[], Mask]
    best: Callable[[Mask, int], Slots]
