"""Why, in words and in numbers: of what is in a list, and of one item that is not."""

from serving.reasons.evidence import Ranking, Why
from serving.reasons.explained import explain

__all__ = ["Ranking", "Why", "explain"]
