"""`explain`: of each item of a list why it is there. One more run of the graph, for requests that say `explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.reasons.evidence import Ranking, Why, gather
from serving.reasons.numbers import because, contributions
from serving.reasons.words import words
from serving.rules import Rules
from serving.second_stage import Situation

if TYPE_CHECKING:
    from serving.scorer import ServedModel

__all__ = ["explain"]


def explain(half: ServedModel, situation: Situation, ranking: Ranking, rules: Rules, *, personal: bool) -> list[Why]:
    """Why each item of a list is in it.

    Parameters
        half: the model that answered.
        situation: who asked, and when.
        ranking: the list.
        rules: of the request.
        personal: whether the model knows anything of the history.

    Returns
        Of each row of `ranking.best` at least one reason, and the parts of its score.
    """
    if not len(ranking.best):
        return []
    evidence = gather(half, situation, ranking.scores, personal=personal)
    reasons = words(half, evidence, ranking, rules, personal=personal)
    return [
        Why(told, contributions(half, evidence, row, value), because(evidence, row))
        for row, value, told in zip(ranking.best.tolist(), ranking.values, reasons, strict=True)
    ]
