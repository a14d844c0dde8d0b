"""The benches of `headwater bench`: one file and one line each, in the order in which they run."""

from benchmarks.ruler import Bench

__all__ = ["BENCHES"]

_ALL = (Bench("score", "What a request costs the scorer, beside exact searches over vectors of the same catalogue."),)

BENCHES = {one.name: one for one in _ALL}
