"""What an item is about, as hashed features, and how a new row starts from items that are about the same.

Before: catalogue entries in log order. After: `encoder` starts the new item's vector from the answer. Knows rows only
through the ids it is asked about.

Feature hashing (Weinberger et al. 2009) of title words, categories and short attribute values to 32-bit numbers. The
start of a new row is the mean vector of the rows sharing most features, rare features counting more, in the spirit of
DropoutNet (Volkovs et al. 2017): nearby in content, nearby in the space, until behaviour says otherwise.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Content", "features_of"]

FEATURES = 32
"""Most features kept per item."""

NEIGHBOURS = 10
"""Most similar items that a new row is the mean of."""

LOOKED_AT = 20_000
"""Most rows that a new row is compared with, but for the holders of its rarest feature."""

WORD = re.compile(r"\w{2,}")


def features_of(content: dict[str, Any]) -> list[int]:
    """Hashed features of an item's content (fields of `headwater.events.Item`): at most 32 different numbers above 0.

    >>> sorted(features_of({"categories": ["Drama"]})) == sorted(features_of({"categories": ("drama",)}))
    True
    """
    words = [f"category={name}".lower() for name in content.get("categories") or ()]
    for name, value in sorted((content.get("attributes") or {}).items()):
        if isinstance(value, str | int | bool) and len(str(value)) <= 64:
            words.append(f"{name}={value}".lower())
    words += [f"word={word}" for word in WORD.findall((content.get("title") or "").lower())]
    words += [f"word={word}" for word in WORD.findall((content.get("text") or "")[:2000].lower())]
    return list(dict.fromkeys((zlib.crc32(word.encode()) & 0x7FFFFFFF) or 1 for word in words))[:FEATURES]


class Content:
    """Features by item id, for at most `limit` ids, and by row, for the items that have one, with an index of these."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.by_id: dict[str, list[int]] = {}
        self.by_row: dict[int, list[int]] = {}
        self.holders: dict[int, set[int]] = {}  # feature -> rows that have it

    def observe(self, item_id: str, content: dict[str, Any] | None, row: int | None) -> None:
        """Take in a catalogue entry; None forgets the item's content."""
        self.by_id.pop(item_id, None)
        if content is not None:
            self.by_id[item_id] = features_of(content)
            if len(self.by_id) > self.limit:
                del self.by_id[next(iter(self.by_id))]
        if row is not None:
            self.set_row(row, item_id)

    def set_row(self, row: int, item_id: str | None) -> None:
        """Tell which item a row belongs to now; None when it is free."""
        for feature in self.by_row.pop(row, ()):
            self.holders[feature].discard(row)
            if not self.holders[feature]:
                del self.holders[feature]
        features = self.by_id.get(item_id, []) if item_id is not None else []
        if features:
            self.by_row[row] = features
        for feature in features:
            self.holders.setdefault(feature, set()).add(row)

    def similar_mean(self, row: int, vectors: NDArray[np.float32], used: int) -> NDArray[np.float32] | None:
        """Mean of the vectors (used, d) of the rows most like `row`, or None where none shares a feature: (d,).

        Looks at the holders of the rarest features first and at no more than LOOKED_AT in all, whatever the size of the
        catalogue: what everybody has says little.
        """
        found: list[NDArray[np.int64]] = []
        say: list[NDArray[np.float64]] = []
        looked_at = 0
        for feature in sorted(self.by_row.get(row, ()), key=lambda one: (len(self.holders[one]), one)):
            others = np.array([one for one in self.holders[feature] if one != row and one < used], np.int64)
            if not len(others):
                continue
            looked_at += len(others)
            if found and looked_at > LOOKED_AT:
                break
            found.append(others)
            say.append(np.full(len(others), 1.0 / len(others)))
        if not found:
            return None
        rows, place = np.unique(np.concatenate(found), return_inverse=True)  # ascending: sets have no order
        likeness = np.bincount(place, np.concatenate(say))
        best = np.argsort(-likeness, kind="stable")[:NEIGHBOURS]
        share = (likeness[best] / likeness[best].sum()).astype(np.float32)
        mean: NDArray[np.float32] = (share[:, None] * vectors[rows[best]]).sum(0, dtype=np.float32)
        return mean
