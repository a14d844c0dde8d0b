"""Compiled functions: loops over arrays that numpy would need many passes for.

Before: `memory` and `fusion` hold the arrays. After: machine code that numba makes of a function at its first call and
keeps beside the sources (or under NUMBA_CACHE_DIR), so that only the first start of a machine waits for it.

No fast mathematics unless a function asks for it by name: then sums may be taken in another order on another kind of
processor, as BLAS does, but always in the same one on the same kind.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar, cast

import numba
import numpy as np

__all__ = ["compiled", "compiled_fused", "compiled_lanes", "compiled_sums", "exp_lanes"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function as machine code, every operation as it is written."""
    return _compiled(function)


def compiled_fused(function: F) -> F:
    """The same, but a product that is added to something is rounded once, with the sum, where the processor can."""
    return _compiled(function, fastmath={"contract"})


def compiled_lanes(function: F) -> F:
    """The same as `compiled_fused`, and a division by 0 is infinite and no error: many numbers in one instruction."""
    return _compiled(function, fastmath={"contract"}, error_model="numpy")


def compiled_sums(function: F) -> F:
    """The same, but sums may be added up several numbers at a time."""
    return _compiled(function, fastmath={"reassoc", "contract"})


def _compiled(function: F, **options: Any) -> F:
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to keep it, as in a read-only container: made again at each start
        return cast(F, numba.njit(**options)(function))
    made._cache._guard_against_spurious_io_errors = _forgiven  # a full disk or a torn file costs time and no worker
    return cast(F, made)


def _forgiven() -> AbstractContextManager[None]:
    """What reading one may raise; the last two where it names a class that an upgrade moved."""
    return suppress(OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError)


LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
ONE, HALF, FAR, BIAS = np.float32(1), np.float32(0.5), np.float32(80), np.int32(127)
THIRD, FOURTH, FIFTH, SIXTH = np.float32(1 / 6), np.float32(1 / 24), np.float32(1 / 120), np.float32(1 / 720)


@compiled_lanes
def exp_lanes(x: np.float32) -> np.float32:
    """e to the x, to the last bit or two, within 80 of 0: without a call, so that many are worked out together."""
    x = min(max(x, -FAR), FAR)
    whole = np.floor(x * LOG2_E + HALF)
    left = (x - whole * LN2_HIGH) - whole * LN2_LOW
    series = (((SIXTH * left + FIFTH) * left + FOURTH) * left + THIRD) * left + HALF
    scale = np.int32((np.int32(whole) + BIAS) << np.int32(23)).view(np.float32)
    power: np.float32 = ((series * left + ONE) * left + ONE) * scale
    return power
