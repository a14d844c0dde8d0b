"""The ruler: what every bench has in common, from turns and spreads to the page that is made of saved figures.

A bench is one file of `benchmarks/benches` with one function: it gets a `Setup` and returns rows. `headwater bench`
runs each in a process of its own and saves what it found.
"""

from benchmarks.ruler.figures import Bar, Beside, Report, Row, ratios
from benchmarks.ruler.registry import Bench, Setup
from benchmarks.ruler.turns import Left, in_turns, optional

__all__ = [
    "Bar",
    "Bench",
    "Beside",
    "Left",
    "Report",
    "Row",
    "Setup",
    "in_turns",
    "optional",
    "ratios",
]
