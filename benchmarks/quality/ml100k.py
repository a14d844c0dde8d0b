"""ML-100K: NDCG@10 over the newest 20,000 of 100,000 ratings, what a user has rated left out.

The bar is .122, the aim .130; item-item cosine has about .103, a GRU blended with it .116.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.quality import prequential

__all__ = ["main"]


def main(name: str, arguments: Sequence[str]) -> int:
    """One command."""
    return prequential.main(name, arguments, __doc__)
