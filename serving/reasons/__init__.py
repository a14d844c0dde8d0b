"""Why, in words and in numbers: of what is in a list, and of one item that is not.

evidence   one more run of the graph, on the version that answered
numbers    what parts of the model and entries of the history add to a score
words      the same in words
explained  both, of the items of a list
obstacles  the rules that keep an item out
why_not    where an item was lost
"""

from serving.reasons.evidence import Ranking, Why
from serving.reasons.explained import explain
from serving.reasons.obstacles import Asker
from serving.reasons.why_not import ModelsWord, Order, why_not

__all__ = ["Asker", "ModelsWord", "Order", "Ranking", "Why", "explain", "why_not"]
