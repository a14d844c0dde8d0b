"""Why an item is in the list, in words: because of which earlier item, instead of what is like one that was turned
down, or because it is popular.

Before: the rows that an answer holds. After: the answer's `reasons`. Knows nothing of how the association memories are
stored: an entry's part in a score is what their output loses when the entry is left out of the history. What was turned
down is a reason where the list would be another one without its part in the scores, and nowhere else. Only requests
that say `explain` pay for it: one more graph run, of a handful of histories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headwater.examples import Entry
from headwater.signals import Meaning
from serving.rules import Rules, best_rows

if TYPE_CHECKING:
    from serving.scorer import Half

__all__ = ["explain"]

NEWEST = 8
"""Newest items of a history that are tried as reasons; the memories fade by a fifth at each step back."""

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

MOVED = 1e-6
"""Least part of an entry in a score that is told as a reason."""


def explain(
    half: Half,
    history: Sequence[Entry],
    scores: npt.NDArray[np.floating[Any]],
    best: npt.NDArray[np.int64],
    rules: Rules,
    now_ms: int,
    *,
    personal: bool,
) -> list[tuple[str, ...]]:
    """Reasons for each of the rows `best`, most important first; every row gets at least one.

    Parameters
        half: the model that answered.
        history: that it answered from.
        scores: (capacity,), of all rows; -inf where none may go.
        best: the rows of the list, best first.
        rules: of the request.
        now_ms: the instant, epoch ms.
        personal: whether the model knows anything of the history.
    """
    if not len(best):
        return []
    if not personal:
        return [("popular now",)] * len(best)
    title = half.rows.catalogue.title
    newest: dict[str, Entry] = {}
    for entry in reversed(history):
        if len(newest) < NEWEST and entry.item_id in half.bundle.item_rows:
            newest.setdefault(entry.item_id, entry)
    without = [[entry for entry in history if entry.item_id != item_id] for item_id in newest]
    meaning = half.bundle.config.meanings.meaning
    spoken = [entry for entry in history if meaning(entry.type, entry.value) is not Meaning.NEGATIVE]
    led = [i for i, one in enumerate(newest.values()) if meaning(one.type, one.value) is not Meaning.NEGATIVE]
    if len(spoken) < len(history):
        without.append(spoken)
    _, (memory, *others) = half.run([history, *without], now_ms, ["memory", *half.bundle.reasons])
    averse: dict[int, str] = {}
    if len(spoken) < len(history):
        averse = _averse(half, list(newest.values()), memory, scores, best, rules)
    memory = memory[: 1 + len(newest), best]  # (1 + newest, k)
    parts = memory[0] - memory[1:]  # (newest, k)
    typical = [float(np.median(output[0])) for output in others]
    entries = list(newest.values())
    reasons = []
    for place, row in enumerate(best.tolist()):
        found: list[str] = []
        most = float(parts[led, place].max(initial=0.0))
        for i in sorted(led, key=lambda i: -parts[i, place])[:2]:
            if parts[i, place] > MOVED and (not found or parts[i, place] > most / 2):
                found.append(f"because you {VERBS.get(entries[i].type, 'chose')} {title(entries[i].item_id)}")
        gains = {
            reason: float(output[0, row]) - usual
            for reason, output, usual in zip(half.bundle.reasons.values(), others, typical, strict=True)
        }
        best_gain = max(gains, key=lambda name: gains[name])
        if not found or gains[best_gain] > most:
            found.append(best_gain)
        if row in averse:
            found.insert(1, averse[row])
        reasons.append(tuple(found))
    return reasons


def _averse(
    half: Half,
    newest: Sequence[Entry],
    memory: npt.NDArray[np.float32],
    scores: npt.NDArray[np.floating[Any]],
    best: npt.NDArray[np.int64],
    rules: Rules,
) -> dict[int, str]:
    """Rows of the list that are in it because others sank, or that sank themselves, and what that was like.

    `newest` are the entries that are tried, `memory` (1 + newest + 1, capacity) what the memories say with all of the
    history, without each of them, and without all that was turned down.
    """
    meaning = half.bundle.config.meanings.meaning
    averse = [i for i, entry in enumerate(newest) if meaning(entry.type, entry.value) is Meaning.NEGATIVE]
    otherwise = best_rows(scores + np.maximum(memory[-1] - memory[0], 0.0), rules, len(best)).tolist()
    if not averse or otherwise == best.tolist():
        return {}
    lowered = memory[1:][averse] - memory[0]  # (averse, capacity), by each of them

    def like(rows: list[int]) -> str:
        entry = newest[averse[int(lowered[:, rows].sum(1).argmax())]]
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
