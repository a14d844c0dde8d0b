"""Names that the served graph and its readers agree on; loads nothing that learns."""

from __future__ import annotations

__all__ = ["EXPERTS", "SAID", "SCORES"]

SCORES = "scores"
"""The output that the parts add up to."""

SAID = "said_"
"""Begins the output of what one of several experts adds that share a part."""

EXPERTS = "experts"
"""Of the graph's metadata, JSON: of each expert, in order, the output that holds what it adds to the scores, and
whether the best of it are candidates: `few` where it has an opinion of few items, `all`, or null."""
