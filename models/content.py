"""What an item is about, as hashed features, and how a new row starts from items that are about the same.

Before: catalogue entries in log order. After: `encoder` starts the new item's vector from the answer. Knows rows only
through the ids it is asked about.

Feature hashing (Weinberger et al. 2009) of title words, categories, short attribute values and buckets of the vectors
that the catalogue brings to 32-bit numbers. The
start of a new row is the mean vector of the rows sharing most features, rare features counting more, in the spirit of
DropoutNet (Volkovs et al. 2017): nearby in content, nearby in the space, until behaviour says otherwise. With a
sentence model the rows whose texts mean about the same have half of the say.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.sentences import SentenceModel

__all__ = ["Content", "features_of"]

FEATURES = 32
"""Most features kept per item."""

NEIGHBOURS = 10
"""Most similar items that a new row is the mean of."""

LOOKED_AT = 20_000
"""Most rows that a new row is compared with, but for the holders of its rarest feature."""

LIKENESS = 0.1
"""Of two texts' cosines, the difference at which one has e times the other's say."""

TABLES, PLANES = 16, 8
"""Hashed features of one vector of an item, and how many sides each of them tells."""

TEXT = 2000
"""Characters of an item's text that are read."""

WORD = re.compile(r"\w{2,}")

Likes = tuple[NDArray[np.int64], NDArray[np.float32]]


def features_of(content: dict[str, Any]) -> list[int]:
    """Hashed features of an item's content (fields of `headwater.events.Item`): at most 32 different numbers above 0.

    >>> sorted(features_of({"categories": ["Drama"]})) == sorted(features_of({"categories": ("drama",)}))
    True
    """
    words = [f"category={name}".lower() for name in content.get("categories") or ()]
    for name, value in sorted((content.get("attributes") or {}).items()):
        if isinstance(value, str | int | bool) and len(str(value)) <= 64:
            words.append(f"{name}={value}".lower())
    for name, vector in sorted((content.get("vectors") or {}).items()):
        words += [f"vector={name}={place}={bucket}" for place, bucket in enumerate(buckets_of(name, vector))]
    words += [f"word={word}" for word in WORD.findall((content.get("title") or "").lower())]
    words += [f"word={word}" for word in WORD.findall((content.get("text") or "")[:TEXT].lower())]
    return list(dict.fromkeys((zlib.crc32(word.encode()) & 0x7FFFFFFF) or 1 for word in words))[:FEATURES]


def buckets_of(name: str, vector: Sequence[float]) -> list[int]:
    """The buckets of a vector, TABLES of them: of each, on which sides of PLANES random planes through 0 it lies.

    Two vectors at an angle a share one with chance (1 - a / pi) ** PLANES (Charikar 2002). None for a vector of zeros.
    """
    numbers = np.array(vector, np.float64)
    if not numbers.any():
        return []
    sides = _planes(name, len(numbers)) @ (numbers / np.abs(numbers).max()) > 0
    found: list[int] = (sides.reshape(TABLES, PLANES) @ (1 << np.arange(PLANES))).tolist()
    return found


@lru_cache(maxsize=16)
def _planes(name: str, length: int) -> NDArray[np.float64]:
    """(TABLES * PLANES, length), the same in every process."""
    return np.random.default_rng(zlib.crc32(f"{name}:{length}".encode())).standard_normal((TABLES * PLANES, length))


def text_of(content: dict[str, Any]) -> str:
    """What a sentence model reads of an item's content."""
    parts = (content.get("title") or "", ", ".join(content.get("categories") or ()), content.get("text") or "")
    return ". ".join(filter(None, parts))[:TEXT]


class Content:
    """Features by item id, for at most `limit` ids, and by row, for the items that have one, with an index of these.

    With a sentence model also texts by id, and `meanings` (rows, size) float32, zeros where there is no text.
    """

    def __init__(self, limit: int, sentences: SentenceModel | None = None) -> None:
        self.limit = limit
        self.sentences = sentences
        self.by_id: dict[str, list[int]] = {}
        self.texts: dict[str, str] = {}
        self.by_row: dict[int, list[int]] = {}
        self.holders: dict[int, set[int]] = {}  # feature -> rows that have it
        self.meanings = np.zeros((0, sentences.size if sentences else 0), np.float32)

    def observe(self, item_id: str, content: dict[str, Any] | None, row: int | None) -> None:
        """Take in a catalogue entry; None forgets the item's content."""
        self.by_id.pop(item_id, None)
        self.texts.pop(item_id, None)
        if content is not None:
            self.by_id[item_id] = features_of(content)
            if self.sentences:
                self.texts[item_id] = text_of(content)
            if len(self.by_id) > self.limit:
                oldest = next(iter(self.by_id))
                del self.by_id[oldest]
                self.texts.pop(oldest, None)
        if row is not None:
            self.set_row(row, item_id)

    def set_row(self, row: int, item_id: str | None) -> None:
        """Tell which item a row belongs to now; None when it is free."""
        self._index(row, item_id)
        if not self.sentences:
            return
        if row >= len(self.meanings):
            grown = np.zeros((max(2 * len(self.meanings), row + 1), self.sentences.size), np.float32)
            grown[: len(self.meanings)] = self.meanings
            self.meanings = grown
        text = self.texts.get(item_id, "") if item_id is not None else ""
        self.meanings[row] = self.sentences.vector(text) if text else 0.0

    def _index(self, row: int, item_id: str | None) -> None:
        for feature in self.by_row.pop(row, ()):
            self.holders[feature].discard(row)
            if not self.holders[feature]:
                del self.holders[feature]
        features = self.by_id.get(item_id, []) if item_id is not None else []
        if features:
            self.by_row[row] = features
        for feature in features:
            self.holders.setdefault(feature, set()).add(row)

    def state(self) -> dict[str, Any]:
        """JSON-able values; `meanings` is apart."""
        return {"features": list(self.by_id.items()), "texts": self.texts}

    def load(self, values: dict[str, Any], meanings: NDArray[np.float32], owners: list[str | None]) -> None:
        """Back to what `state()` returned, with the item that each row belongs to."""
        self.by_id, self.texts = dict(values["features"]), values["texts"]
        self.meanings = meanings.copy()
        for row, item_id in enumerate(owners):
            self._index(row, item_id)

    def likes(self, row: int, used: int) -> list[Likes]:
        """Of each way to compare the rows most like `row`, the most like it first, and their shares of the say."""
        return [like for like in (self._by_features(row, used), self._by_meaning(row, used)) if like is not None]

    def similar_mean(self, likes: Sequence[Likes], vectors: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Mean of the vectors (used, d) of the rows that `likes` found, or None where none is: (d,)."""
        if not likes:
            return None
        means = [(share[:, None] * vectors[rows]).sum(0, dtype=np.float32) for rows, share in likes]
        mean: NDArray[np.float32] = np.mean(means, 0, dtype=np.float32)
        return mean

    def _by_features(self, row: int, used: int) -> Likes | None:
        """The rows that share most features with `row`, and their shares of the say.

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
        return rows[best], (likeness[best] / likeness[best].sum()).astype(np.float32)

    def _by_meaning(self, row: int, used: int) -> Likes | None:
        """The rows whose texts mean most nearly what that of `row` does, likewise."""
        if row >= len(self.meanings) or not self.meanings[row].any():
            return None
        cosine = self.meanings[:used] @ self.meanings[row]
        cosine[row] = 0.0
        best = np.argsort(-cosine, kind="stable")[:NEIGHBOURS]
        best = best[cosine[best] > 0]
        if not len(best):
            return None
        share = np.exp((cosine[best] - cosine[best[0]]) / LIKENESS)
        return best, (share / share.sum()).astype(np.float32)
