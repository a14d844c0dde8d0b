"""What the second stage does to one request's scores.

Before: the graph's scores and parts of the batch, and the request's rules written into its scores. After: whoever
arranges the list. `serving.ranker` has the maths. Knows no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.ranker.candidates import best_of_others
from models.ranker.facts import Past
from models.ranker.revision import NO_HEADS
from models.top_k import drop_not_finite
from serving.arranging import NO_DRAWS, Draws
from serving.ranker import CLOSED, SecondStage, Situation, Spoken

if TYPE_CHECKING:
    from serving.scorer import ServedModel

__all__ = ["Revised", "Situation", "Told", "asked_outputs", "objective_notes", "revise", "told"]

Array = npt.NDArray[Any]
RowIds = npt.NDArray[np.int64]

NO_ROWS: RowIds = np.zeros(0, np.int64)


class Told(NamedTuple):
    """What the ranker says of one request: its candidates' rows (C,), ascending, their facts (C, F), and what it adds
    to their scores (C,), finite. `not_finite`: how much of that was none, and is 0; `by_head`: how far each head that
    has a part in it was listened to.
    """

    rows: RowIds
    facts: Array
    added: Array
    not_finite: int = 0
    by_head: Mapping[int, np.float32] = NO_HEADS


class Revised(NamedTuple):
    """The candidates' rows, ascending, none where the model has no ranker; what draws add to their scores, or why
    there are none; and a score that no other row is above.
    """

    rows: RowIds
    draws: Draws | str
    others: float = np.inf


def asked_outputs(half: ServedModel) -> list[str]:
    """The outputs of the graph that `revise` reads of a model, beside `scores`; none where it has no ranker."""
    return [] if half.second is None else half.second.outputs


def revise(half: ServedModel, situation: Situation, scores: Array, parts: Spoken, spread: float = 0.0) -> Revised:
    """Add to the candidates' scores what the ranker says of them.

    Parameters
        half: the model that answers.
        situation: who asks, and when.
        scores: (capacity,), -inf where the rules let nothing go; written to.
        parts: (capacity,) each, or what is of few rows of these alone, by the names of `asked_outputs`.
        spread: of draws of the ranker's posterior; 0 makes none.
    """
    stage = half.second
    if stage is None:
        return Revised(NO_ROWS, NO_DRAWS)
    rows, past = stage.candidates(situation, scores, parts)
    stage.seen.requests += 1
    stage.seen.candidates += len(rows)
    others = best_of_others(scores[rows], CLOSED)
    draws: Array | str = "no_candidates" if stage.share else "no_share"
    if stage.share or stage.lift or stage.weighed(situation.objectives):
        said = _told(stage, situation, scores, parts, rows, past)
        stage.seen.not_finite += said.not_finite
        scores[rows] += said.added
        if spread and stage.share and len(rows):
            draws = stage.drawn(said.facts, scores[rows], spread)
    return Revised(rows, draws if isinstance(draws, str) else Draws(rows, draws), others)


def objective_notes(half: ServedModel, objectives: Mapping[str, float]) -> list[str]:
    """For the receipt: objectives that no head of the model is of, and those whose head has not earned anything yet."""
    heads = {} if half.second is None else half.second.heads
    unknown = [name for name in objectives if name not in heads]
    young = [name for name in objectives if name in heads and not half.bundle.weights["ranker_head_share"][heads[name]]]
    notes = {"unknown_objectives": unknown, "young_objectives": young}
    return [f"{note}={','.join(names)}" for note, names in notes.items() if names]


def told(half: ServedModel, situation: Situation, scores: Array, parts: Spoken) -> Told | None:
    """What the ranker says, and nothing is written to or counted; the arguments are `revise`'s. None without one."""
    stage = half.second
    if stage is None:
        return None
    return _told(stage, situation, scores, parts, *stage.candidates(situation, scores, parts))


def _told(
    stage: SecondStage,
    situation: Situation,
    scores: Array,
    parts: Spoken,
    rows: RowIds,
    past: Past,
) -> Told:
    facts, by_head = stage.facts(situation, scores, parts, rows, past), stage.weighed(situation.objectives)
    if not len(rows):
        return Told(rows, facts, np.zeros(0, np.float32))
    added = stage.added(facts, scores[rows], rows, by_head)
    not_finite = drop_not_finite(added)
    if not_finite:
        added[np.isneginf(added)] = 0
    return Told(rows, facts, added, not_finite, by_head)
