"""Why, in words and in numbers: of what is in a list, and of one item that is not."""

from serving.reasons.explained import explain
from serving.reasons.evidence import Ranking, Why

__all__ = ["Ranking", "Why", "explain"]
