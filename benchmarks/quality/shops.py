"""The shops retailrocket_sub and taobao_bcf: NDCG@10 over the newest fifth of all events, of any type, repeats allowed.

The bar is 1.10 times the best peer of the same run, the aim 1.30 times.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.quality import prequential

__all__ = ["main"]


def main(name: str, arguments: Sequence[str]) -> int:
    """One command."""
    return prequential.main(name, arguments, __doc__)
