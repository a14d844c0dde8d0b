"""Evidence: what the model that answered says of a history, and of the same history with something left out.

Before: an answer whose request says `explain` or `why_not`. After: `words`, `numbers` and `why_not` read it. All of it
is one run of the graph, on the version that answered and at the same instant, so that what it says of the whole history
is the scores of the answer, bit by bit. The ranker is asked about each history, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.examples import Entry
from headwater.recommendations import Because
from headwater.signals import Meaning
from models.published.names import SCORES
from serving.second_stage import Situation, Told, asked_outputs, told

if TYPE_CHECKING:
    from serving.scorer import ServedModel

__all__ = ["MEMORY", "MOVED", "Evidence", "Ranking", "Why", "gather"]

NEWEST_ITEMS = 8
"""Newest items of a history that are tried as reasons; the memories fade by a fifth at each step back."""

NEWEST_ENTRIES = 16
"""Newest entries of a history, of items that the model knows, that are left out one at a time; beside them the newest
entry of each item that is tried, so that what is named in words has its numbers."""

MEMORY = "memory"

MOVED = 1e-6
"""Least part of an entry in a score that is told."""

Array = npt.NDArray[Any]
RowIds = npt.NDArray[np.int64]


class Why(NamedTuple):
    """Of one item of a list: in words, by part of the model, and by entry of the history."""

    reasons: tuple[str, ...] = ()
    contributions: Mapping[str, float] = MappingProxyType({})
    because: tuple[Because, ...] = ()


class Ranking(NamedTuple):
    """A list of the model, and what it was taken from.

    Fields
        scores: (capacity,), as the second stage left them; -inf where the rules let nothing go.
        candidates: rows that the ranker revised, none without one.
        best: rows of the list, best first.
        values: their scores in the answer.
    """

    scores: Array
    candidates: RowIds
    best: RowIds
    values: Sequence[float]


class Evidence(NamedTuple):
    """Outputs of the graph, each (B, capacity), by history; the first history is the whole one.

    Fields
        revised: (B, capacity), the scores with what the ranker adds to its candidates.
        ranker: what the ranker says with the whole history; None without one.
        items: the newest entry of each item that is tried, newest first; `without_item` are the histories without any
            entry of it.
        entries: the entries that are tried, newest first; `without_entry` are the histories without this one.
        spoken: the history without all that speaks against its item; None where nothing does.
    """

    outputs: dict[str, Array]
    revised: Array
    ranker: Told | None
    items: list[Entry]
    without_item: list[int]
    entries: list[Entry]
    without_entry: list[int]
    spoken: int | None

    def fused(self, row: int) -> float:
        """A row's score before the second stage."""
        return float(self.outputs[SCORES][0, row])


def gather(half: ServedModel, situation: Situation, scores: Array, *, personal: bool) -> Evidence:
    """Run the graph once more.

    Parameters
        half: the model that answered.
        situation: who asked, and when.
        scores: (capacity,), -inf where the rules let nothing go.
        personal: without it, of the whole history alone.
    """
    history, known = situation.history, half.bundle.item_rows
    histories: list[Sequence[Entry]] = [history]
    places: dict[frozenset[int], int] = {frozenset(): 0}

    def without(left_out: Sequence[int]) -> int:
        """The place of the history without these entries."""
        key = frozenset(left_out)
        if key not in places:
            places[key] = len(histories)
            histories.append([entry for i, entry in enumerate(history) if i not in key])
        return places[key]

    newest: dict[str, list[int]] = {}
    for i in reversed(range(len(history) if personal else 0)):
        item_id = history[i].item_id
        if item_id in newest or (len(newest) < NEWEST_ITEMS and item_id in known):
            newest.setdefault(item_id, []).append(i)
    own = [i for i in reversed(range(len(history))) if history[i].item_id in known]
    named = {left_out[0] for left_out in newest.values()}
    tried = [i for place, i in enumerate(own) if place < NEWEST_ENTRIES or i in named] if personal else []
    meaning = half.bundle.config.meanings.meaning
    against = [i for i, one in enumerate(history) if meaning(one.type, one.value) is Meaning.NEGATIVE]
    without_item = [without(left_out) for left_out in newest.values()]
    without_entry = [without([i]) for i in tried]
    spoken = without(against) if against and personal else None
    names = (SCORES, MEMORY, *half.parts.values(), *half.bundle.reasons, *asked_outputs(half))
    outputs = list(dict.fromkeys(name for name in names if name in half.outputs))
    b = len(histories)
    _, found = half.run(histories, situation.at_ms, outputs, [situation.state.shown] * b, [situation.session] * b)
    said = dict(zip(outputs, found, strict=True))
    revised, closed, ranker = said[SCORES].copy(), np.isneginf(scores), None
    for place, one in reversed(list(enumerate(histories))):
        parts = {name: output[place] for name, output in said.items()}
        open_scores = np.where(closed, np.float32(-np.inf), parts[SCORES])
        ranker = told(half, situation._replace(history=one, steps=None), open_scores, parts)
        if ranker is not None:
            revised[place, ranker.rows] += ranker.added
    return Evidence(
        outputs=said,
        revised=revised,
        ranker=ranker,
        items=[history[left_out[0]] for left_out in newest.values()],
        without_item=without_item,
        entries=[history[i] for i in tried],
        without_entry=without_entry,
        spoken=spoken,
    )
