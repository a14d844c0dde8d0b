"""What an item is about, as hashed features, and how a new row starts from items that are about the same.

Before: catalogue entries in log order. After: `encoder` starts the new item's vector from the answer. Knows rows only
through the ids it is asked about.

Feature hashing (Weinberger et al. 2009) of title words, categories, short attribute values and buckets of the vectors
that the catalogue brings to 32-bit numbers. The
start of a new row is the mean vector of the rows sharing most features, rare features counting more, in the spirit of
DropoutNet (Volkovs et al. 2017): nearby in content, nearby in the space, until behaviour says otherwise. With a
sentence model the rows whose texts mean about the same have half of the say.

For the ranker each modality of an item (its kinds, its words, each vector by name) is a sketch: a random projection to
a few numbers, the same in every process: the sketches of two items are at about the angle of what they stand for.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.sentences import SentenceModel

__all__ = ["KINDS", "MODALITIES", "SIZE", "VECTORS", "WORDS", "Content", "Sketch", "features_of"]

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

VECTORS = 4
"""Names of vectors that the ranker tells apart, the first that the catalogue brings; others make items alike only."""

MODALITIES = 2 + VECTORS
"""Of an item: `KINDS`, its categories and short attributes; `WORDS` of title and text, or what these mean where a
sentence model says so; then its vectors in the order that their names came in."""

KINDS, WORDS = 0, 1

SIZE = 32
"""Numbers of a sketch, each at most `FULL`, together a vector of about that length."""

FULL = 127

WORD = re.compile(r"\w{2,}")

Sketch = NDArray[np.int8]
"""(MODALITIES, SIZE); zeros where an item has nothing of a modality."""

Likes = tuple[NDArray[np.int64], NDArray[np.float32]]


def features_of(content: dict[str, Any]) -> list[int]:
    """Hashed features of an item's content (fields of `headwater.events.Item`): at most 32 different numbers above 0.

    >>> sorted(features_of({"categories": ["Drama"]})) == sorted(features_of({"categories": ("drama",)}))
    True
    """
    words = _kinds(content)
    for name, vector in sorted((content.get("vectors") or {}).items()):
        words += [f"vector={name}={place}={bucket}" for place, bucket in enumerate(buckets_of(name, vector))]
    return _hashed(words + _words(content))[:FEATURES]


def _kinds(content: dict[str, Any]) -> list[str]:
    """Of categories and short attributes."""
    found = [f"category={name}".lower() for name in content.get("categories") or ()]
    for name, value in sorted((content.get("attributes") or {}).items()):
        if isinstance(value, str | int | bool) and len(str(value)) <= 64:
            found.append(f"{name}={value}".lower())
    return found


def _words(content: dict[str, Any]) -> list[str]:
    """Of title and text."""
    texts = (content.get("title") or "").lower(), (content.get("text") or "")[:TEXT].lower()
    return [f"word={word}" for text in texts for word in WORD.findall(text)]


def _hashed(words: Sequence[str]) -> list[int]:
    return list(dict.fromkeys((zlib.crc32(word.encode()) & 0x7FFFFFFF) or 1 for word in words))


def _sum_of_signs(features: Sequence[int]) -> NDArray[np.float64]:
    """(SIZE,): of each feature a sign at each place, which its bits decide, added up (Charikar et al. 2002)."""
    mixed = np.array(features, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (mixed[:, None] >> np.arange(64 - SIZE, 64, dtype=np.uint64)) & np.uint64(1)  # (n, SIZE)
    found: NDArray[np.float64] = (2.0 * bits - 1.0).sum(0)
    return found


def _turned(name: str, vector: Sequence[float] | NDArray[np.float32]) -> NDArray[np.float64]:
    """(SIZE,): a vector's sides of the first planes through 0, and how far it is from each."""
    numbers = np.array(vector, np.float64)
    largest = np.abs(numbers).max(initial=0.0)
    return _planes(name, len(numbers))[:SIZE] @ (numbers / largest) if largest > 0 else np.zeros(SIZE)


def _small(numbers: NDArray[np.float64]) -> NDArray[np.int8]:
    """The direction of (SIZE,) in whole numbers."""
    length = float(np.linalg.norm(numbers))
    return np.rint(numbers * (FULL / length)).astype(np.int8) if length > 0 else np.zeros(SIZE, np.int8)


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
    `vectors` has the modality of each name of a vector.
    """

    def __init__(self, limit: int, sentences: SentenceModel | None = None) -> None:
        self.limit = limit
        self.sentences = sentences
        self.by_id: dict[str, list[int]] = {}
        self.texts: dict[str, str] = {}
        self.vectors: dict[str, int] = {}
        self._sketches: dict[str, bytes] = {}
        self.by_row: dict[int, list[int]] = {}
        self.holders: dict[int, set[int]] = {}  # feature -> rows that have it
        self.meanings = np.zeros((0, sentences.size if sentences else 0), np.float32)

    def observe(self, item_id: str, content: dict[str, Any] | None, row: int | None) -> None:
        """Take in a catalogue entry; None forgets the item's content."""
        self.by_id.pop(item_id, None)
        self.texts.pop(item_id, None)
        self._sketches.pop(item_id, None)
        if content is not None:
            self.by_id[item_id] = features_of(content)
            sketch = self._sketch_of(content)
            if sketch.any():
                self._sketches[item_id] = sketch.tobytes()
            if self.sentences:
                self.texts[item_id] = text_of(content)
            if len(self.by_id) > self.limit:
                oldest = next(iter(self.by_id))
                del self.by_id[oldest]
                self.texts.pop(oldest, None)
                self._sketches.pop(oldest, None)
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

    def _sketch_of(self, content: dict[str, Any]) -> Sketch:
        found = np.zeros((MODALITIES, SIZE), np.int8)
        for place, words in ((KINDS, _kinds(content)), (WORDS, _words(content))):
            if words:
                found[place] = _small(_sum_of_signs(_hashed(words)))
        for name, vector in sorted((content.get("vectors") or {}).items()):
            if name not in self.vectors and len(self.vectors) < VECTORS:
                self.vectors[name] = WORDS + 1 + len(self.vectors)
            if name in self.vectors:
                found[self.vectors[name]] = _small(_turned(name, vector))
        return found

    def sketch(self, row: int, item_id: str) -> Sketch:
        """What is known of the item that a row belongs to, by modality."""
        found = np.zeros((MODALITIES, SIZE), np.int8)
        kept = self._sketches.get(item_id)
        if kept is not None:
            found[:] = np.frombuffer(kept, np.int8).reshape(found.shape)
        if row < len(self.meanings) and self.meanings[row].any():
            found[WORDS] = _small(_turned("sentence", self.meanings[row]))
        return found

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
        """JSON-able values; `arrays` are apart."""
        found = {"features": list(self.by_id.items()), "texts": self.texts}
        sketched = {"sketched": list(self._sketches)} if self._sketches else {}
        return found | sketched | ({"vectors": list(self.vectors)} if self.vectors else {})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The rest of the state, by name."""
        sketches = np.frombuffer(b"".join(self._sketches.values()), np.int8).reshape(-1, MODALITIES * SIZE)
        return {"content.meanings": self.meanings} | ({"content.sketches": sketches} if self._sketches else {})

    def load(self, values: dict[str, Any], arrays: Mapping[str, NDArray[Any]], owners: list[str | None]) -> None:
        """Back to what `state()` and `arrays()` returned, with the item that each row belongs to.

        A checkpoint of an earlier release has no sketches: they come with the next record of each item.
        """
        self.by_id, self.texts = dict(values["features"]), values["texts"]
        self.meanings = arrays["content.meanings"].copy()
        self.vectors = {name: WORDS + 1 + place for place, name in enumerate(values.get("vectors", ()))}
        each = zip(values.get("sketched", ()), arrays.get("content.sketches", ()), strict=True)
        self._sketches = {item_id: sketch.tobytes() for item_id, sketch in each}
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
            holders = self.holders[feature]
            if found and looked_at + len(holders) - (row in holders) > LOOKED_AT:
                break  # before it is walked through: everybody may hold it
            others = np.array([one for one in holders if one != row and one < used], np.int64)
            if not len(others):
                continue
            looked_at += len(others)
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
