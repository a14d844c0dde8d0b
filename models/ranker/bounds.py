"""How far the ranker's numbers may go, in numpy and in the graph. Loads nothing."""

WIDEST = 4.0
"""Standardised facts are cut here: one that is out of all proportion says no more."""

MOST = 10.0
"""Nothing said is further from 0."""
