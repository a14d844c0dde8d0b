"""Why an item is in the list, in words: because of which earlier item, instead of what is like one that was turned
down, or because it is popular.

Before: `evidence`. After: an answer's `reasons`. Knows nothing of how the association memories are stored: an item's
part in a score is what their output loses when the item is left out of the history. What was turned down is a reason
where the list would be another one without its part in the scores, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headwater.signals import Meaning
from serving.reasons.evidence import MEMORY, MOVED, Evidence, Ranking
from serving.rules import Rules, best_rows

if TYPE_CHECKING:
    from serving.scorer import ServedModel

__all__ = ["words"]

VERBS = {
    "view": "viewed",
    "impression": "saw",
    "click": "clicked",
    "cart": "put in your cart",
    "purchase": "bought",
    "like": "liked",
    "share": "shared",
    "comment": "commented on",
    "rating": "rated",
    "watch": "watched",
    "listen": "listened to",
    "read": "read",
}

TURNED_DOWN = {
    "dismiss": "dismissed",
    "dislike": "disliked",
    "skip": "skipped",
    "report": "reported",
    "hide": "hid",
    "block": "blocked",
    "downvote": "voted down",
    "thumbs_down": "voted down",
    "mute": "muted",
    "rating": "rated low",
}


def words(
    half: ServedModel, evidence: Evidence, ranking: Ranking, rules: Rules, *, personal: bool
) -> list[tuple[str, ...]]:
    """Reasons for each row of the list, most important first; every row gets at least one.

    Parameters
        half: the model that answered.
        evidence: of the request.
        ranking: the list.
        rules: of the request.
        personal: whether the model knows anything of the history.
    """
    best = ranking.best
    if not personal:
        return [("popular now",)] * len(best)
    title, entries = half.rows.catalogue.title, evidence.items
    meaning = half.bundle.config.meanings.meaning
    led = [i for i, one in enumerate(entries) if meaning(one.type, one.value) is not Meaning.NEGATIVE]
    averse = _averse(half, evidence, ranking, rules)
    memory = evidence.outputs[MEMORY]
    parts = memory[0, best] - memory[evidence.without_item][:, best]  # (items, k)
    typical = {part: float(np.median(evidence.outputs[part][0])) for part in half.bundle.reasons}
    reasons = []
    for place, row in enumerate(best.tolist()):
        found: list[str] = []
        most = float(parts[led, place].max(initial=0.0))
        for i in sorted(led, key=lambda i: -parts[i, place])[:2]:
            if parts[i, place] > MOVED and (not found or parts[i, place] > most / 2):
                found.append(f"because you {VERBS.get(entries[i].type, 'chose')} {title(entries[i].item_id)}")
        gains = {
            reason: float(evidence.outputs[part][0, row]) - typical[part]
            for part, reason in half.bundle.reasons.items()
        }
        best_gain = max(gains, key=lambda name: gains[name])
        if not found or gains[best_gain] > most:
            found.append(best_gain)
        if row in averse:
            found.insert(1, averse[row])
        reasons.append(tuple(found))
    return reasons


def _averse(half: ServedModel, evidence: Evidence, ranking: Ranking, rules: Rules) -> dict[int, str]:
    """Rows of the list that are in it because others sank, or that sank themselves, and what that was like."""
    if evidence.spoken is None:
        return {}
    best, memory = ranking.best, evidence.outputs[MEMORY]
    meaning = half.bundle.config.meanings.meaning
    averse = [i for i, entry in enumerate(evidence.items) if meaning(entry.type, entry.value) is Meaning.NEGATIVE]
    unsunk = ranking.scores + np.maximum(memory[evidence.spoken] - memory[0], 0.0)
    otherwise = best_rows(unsunk, rules, len(best)).tolist()
    if not averse or otherwise == best.tolist():
        return {}
    lowered = memory[[evidence.without_item[i] for i in averse]] - memory[0]  # (averse, capacity), by each of them

    def like(rows: list[int]) -> str:
        entry = evidence.items[averse[int(lowered[:, rows].sum(1).argmax())]]
        verb = TURNED_DOWN.get(entry.type, "turned down")
        return f"like {half.rows.catalogue.title(entry.item_id)}, which you {verb}"

    gone = [row for row in otherwise if row not in best]
    told: dict[int, str] = {}
    for place, row in enumerate(best.tolist()):
        if row not in otherwise:
            told[row] = f"instead of more {like(gone)}"
        elif place > otherwise.index(row) and lowered[:, row].max() > MOVED:
            told[row] = f"further down, for it is {like([row])}"
    return told
