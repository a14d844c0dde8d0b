"""Names that the served graph and its readers agree on; loads nothing that learns."""

from __future__ import annotations

__all__ = ["ALONE", "CUT", "EXPERTS", "FEW", "SAID", "SCORES", "rows_of", "said_of"]

SCORES = "scores"
"""The output that the parts add up to."""

SAID = "said_"
"""Begins the output of what one of several experts adds that share a part."""

EXPERTS = "experts"
"""Of the graph's metadata, JSON: of each expert, in order, the output that holds what it adds to the scores, and
whether the best of it are candidates: `few` where it has an opinion of few items, `all`, or null."""

FEW = "few"
"""Of the graph's metadata, JSON: by output that holds what an expert adds to the scores, (B, capacity), where that is
of few rows, pairs of the input that names the rows, (B, S), and the output that has what is added there, (B, S)."""

ALONE = "alone"
"""Of the graph's metadata, where one history alone gets the bits that it gets among others. Graphs of an earlier
release have to be given two."""


CUT = "cut"
"""Of the graph's metadata, JSON: the values at which it may be cut in two (`cut`), by what they are."""


def rows_of(expert: str) -> str:
    """The runtime input that names the rows that an expert spoke of on arrival, (B, S)."""
    return f"{expert}_rows"


def said_of(expert: str) -> str:
    """The one that has what it said of them, (B, S), before the gate."""
    return f"{expert}_said"
