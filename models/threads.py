"""Numpy's products on one thread: where BLAS takes a thread a core, small ones spin for twice the processor time, and
large ones have other last bits on a machine of other cores.
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

__all__ = ["blas_on_one_thread"]


def blas_on_one_thread() -> None:
    """For the rest of this process: whoever learns or scores calls it first."""
    threadpool_limits(1, "blas")
