"""`why_not`: where an item that was asked about was lost, and what the list's last item has more of.

Before: an answer whose request names an item. After: its `WhyNot`. What keeps the item out of any list is told first
(`obstacles`); where nothing does, its rank among what may be listed, and what arranging did to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.recommendations import RecommendedItem, WhyNot
from serving.reasons.evidence import Evidence, gather
from serving.reasons.numbers import contributions
from serving.reasons.obstacles import Asker, Obstacle, obstacles
from serving.rules import Rows
from serving.second_stage import Situation

if TYPE_CHECKING:
    from serving.scorer import ServedModel

__all__ = ["ModelsWord", "Order", "why_not"]

Array = npt.NDArray[Any]

Order = Mapping[str, tuple[str, float]]
"""Items that no model ranks, best first: by what (`popular`), and how high."""

RANK, CAPPED, LISTED = "rank", "capped", "listed"

COLD = "cold"
"""The one part of what neither model nor order ranks."""


class ModelsWord(NamedTuple):
    """What the model that answered says, where it ranked the list.

    Fields
        half, situation: the model; who asks, and when.
        scores: (capacity,), as the second stage left them; -inf where the rules let nothing go.
        candidates: rows that the ranker revised, none without one.
    """

    half: ServedModel
    situation: Situation
    scores: Array
    candidates: npt.NDArray[np.int64]


class _Place(NamedTuple):
    """Where an item would be."""

    rank: int | None = None
    of: int = 0
    score: float | None = None
    parts: Mapping[str, float] = {}
    last: Mapping[str, float] = {}


def why_not(
    item_id: str,
    items: Sequence[RecommendedItem],
    rows: Rows,
    asker: Asker,
    ranked: ModelsWord | Order,
) -> WhyNot:
    """Where an item was lost.

    Parameters
        item_id: that is asked about.
        items: of the answer.
        rows: the catalogue by its own slots.
        asker: who asked, and by which rules.
        ranked: by what the list is ranked.
    """
    if isinstance(ranked, ModelsWord):
        row = ranked.half.bundle.item_rows.get(item_id)
        place, known = _by_model(row, items, ranked), row is not None
    else:
        place, known = _by_order(item_id, items, ranked), item_id in ranked
    listed = next((item for item in items if item.item_id == item_id), None)
    if listed is not None:
        text = f"It is in the list, at place {listed.rank} of {len(items)}."
        parts = place.parts if place.score == listed.score else {COLD: listed.score}
        return _said(item_id, LISTED, text, _Place(listed.rank, score=listed.score, parts=parts))
    found = obstacles(item_id, rows, known, asker)
    if found:
        return _kept_out(item_id, found, place)
    held_back = _held_back(item_id, items, rows, asker, place)
    if held_back:
        stage = CAPPED if any(one.stage == CAPPED for one in held_back) else RANK
        told = "; ".join(one.text for one in held_back)
        return _said(item_id, stage, f"By its score it would be at place {place.rank}, but {told}.", place)
    return _said(item_id, RANK, _rank_text(item_id, items, ranked, place), place)


def _said(item_id: str, stage: str, text: str, place: _Place) -> WhyNot:
    more = {name: part - place.parts.get(name, 0.0) for name, part in place.last.items()}
    more |= {name: -part for name, part in place.parts.items() if name not in place.last} if place.last else {}
    behind = sorted(((name, part) for name, part in more.items() if part > 0), key=lambda one: -one[1])
    return WhyNot(
        item_id=item_id,
        stage=stage,
        text=text,
        rank=place.rank,
        score=place.score,
        contributions=dict(place.parts),
        behind=dict(behind),
    )


def _kept_out(item_id: str, found: Sequence[Obstacle], place: _Place) -> WhyNot:
    text = f"{found[0].text[0].upper()}{found[0].text[1:]}."
    for other in found[1:]:
        text += f" Also {other.text}."
    if place.rank is not None:
        text += f" Without that its score would put it at place {place.rank}."
    return _said(item_id, found[0].stage, text, place._replace(rank=None, last={}))


def _by_model(row: int | None, items: Sequence[RecommendedItem], model: ModelsWord) -> _Place:
    """Its rank among the rows that may be listed. A row that may not has the score that it had before the ranker."""
    if row is None:
        return _Place()
    half, scores = model.half, model.scores
    evidence = gather(half, model.situation, scores, personal=False)
    score = float(scores[row])
    if score == -np.inf:
        score = evidence.fused(row)
    if not math.isfinite(score):
        return _Place()  # it has none, and was left out for that
    better = int(np.count_nonzero(scores > score)) + int(np.count_nonzero(scores[:row] == score))
    ranked = [half.bundle.item_rows[one.item_id] for one in items if one.item_id in half.bundle.item_rows]
    last = _parts(half, evidence, ranked[-1], scores) if ranked else {}
    of = int(np.count_nonzero(scores > -np.inf))
    return _Place(better + 1, of, score, contributions(half, evidence, row, score), last)


def _parts(half: ServedModel, evidence: Evidence, row: int, scores: Array) -> dict[str, float]:
    return contributions(half, evidence, row, float(scores[row]))


def _by_order(item_id: str, items: Sequence[RecommendedItem], order: Order) -> _Place:
    if item_id not in order:
        return _Place()
    (part, score), last = order[item_id], [order[one.item_id] for one in items if one.item_id in order]
    return _Place(list(order).index(item_id) + 1, len(order), score, {part: score}, dict(last[-1:]))


def _held_back(
    item_id: str, items: Sequence[RecommendedItem], rows: Rows, asker: Asker, place: _Place
) -> list[Obstacle]:
    """What arranging did to an item whose score would have put it into the list; nothing where that is too low."""
    surface, at_ms, catalogue = asker.surface, asker.at_ms, rows.catalogue
    if place.rank is None or place.rank > len(items):
        return []
    slot = catalogue.slot(item_id)
    slots = [catalogue.slot(item.item_id) for item in items]
    found = []
    for name, most in surface.max_per.items():
        for value in dict.fromkeys(catalogue.values(name, [slot])[0]):
            held = sum(value in other for other in catalogue.values(name, slots))
            if held >= most:
                text = f"max_per lets {most} of {name} = {value!r:.80} in, and {held} are above it"
                found.append(Obstacle(CAPPED, text))
    for number, boost in enumerate(surface.boosts):
        if boost.times < 1 and boost.holds(at_ms) and _meets(rows, boost.filters, slot, at_ms):
            found.append(Obstacle(RANK, f"boosts[{number}] buries it (times {boost.times:g})"))
    if found:
        return found
    explore = surface.explore
    others = {
        "other items are raised (boosts)": any(one.times > 1 and one.holds(at_ms) for one in surface.boosts),
        "places are pinned (pins)": any(one.holds(at_ms) for one in surface.pins),
        "places are kept for what has a share (shares)": any(one.holds(at_ms) for one in surface.shares),
        f"it is like what is above it (diversity {surface.diversity:g})": surface.diversity > 0,
        "places are drawn by chance (explore)": bool(explore.temperature or explore.epsilon or explore.new_items),
    }
    return [Obstacle(RANK, text) for text, holds in others.items() if holds]


def _meets(rows: Rows, filters: Mapping[str, Any], slot: int, at_ms: int) -> bool:
    return bool(rows.matching_all(filters, at_ms, "boosts", unknown_ok=True)[slot])


def _rank_text(item_id: str, items: Sequence[RecommendedItem], ranked: ModelsWord | Order, place: _Place) -> str:
    ends = f"the list ends at place {len(items)}" if items else "the list is empty"
    if place.rank is None:
        if isinstance(ranked, ModelsWord):
            if item_id in ranked.half.bundle.item_rows:
                return "Its score is no number, so that it was left out: the worker's log counts such scores."
            known = "is new to the model"
        else:
            parts = list(dict.fromkeys(part for part, _ in ranked.values())) or ["popular"]
            known = f"is not among what is {' or '.join(parts)}"
        return f"It {known}: such items come last, those like the newest of the history and the newest first; {ends}."
    text = f"It ranks {place.rank:,} of the {place.of:,} items that may be listed, and {ends}."
    if isinstance(ranked, ModelsWord) and len(ranked.candidates):
        row = ranked.half.bundle.item_rows[item_id]
        if row not in ranked.candidates:
            text += f" It is none of the {len(ranked.candidates):,} candidates that the ranker looked at."
    return text
