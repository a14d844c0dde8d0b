"""One content digest for a model, wherever it is held: trainer, serving or backtest.

Before: a publication or a delta says which rows changed. After: receipts and announcements carry the digest. Knows
arrays and names, not what they mean.

Arrays are hashed in leaves of a few rows, and the digest is the hash of the leaves' hashes (Merkle 1987), so that a
delta costs what it touched and not the whole model. There are three schemes:

    1   of the first release: each array by itself, in leaves of 256 rows; the owners of all rows as one JSON.
    2   tables of the same rows share their leaves (4 rows of all tables, with their owners), and so do arrays of one
        pool; 64 hashes of leaves make one, and these make the root. A row that changes costs one leaf, whatever was
        changed of it, and nothing walks through the catalogue.
    3   as 2, and of each array the kind of its numbers: the same bytes read as others are another model.

A model keeps the scheme that it was published under, so the chain of deltas behind a bundle of an earlier release goes
on as it began.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from models.config import ModelConfig
from models.part import LATER

__all__ = ["FIRST_SCHEME", "SCHEME", "ModelDigest", "Touched", "hash_all"]

FIRST_SCHEME, SCHEME = 1, 3
"""The scheme of bundles that name none, and that of new ones."""

KINDS_SCHEME = 3

LEAF_ROWS, LEAF_PLACES, LEAF_ALONE = 4, 128, 256
"""Rows of a leaf of all tables, of a pool, and of an array that is hashed by itself."""

BRANCH = 64
"""Hashes of leaves that make one."""

SLAB_BYTES = 1 << 22
"""What is copied together to be hashed at one time."""

SIZE = hashlib.sha256().digest_size

Array = NDArray[Any]
Rows = NDArray[np.int64]
Owners = Sequence[str | None]


class Touched(NamedTuple):
    """Rows of an array that change, and what they become: (r, ...); None where the array says so already. `within`:
    of single places, (r,), which of the row's."""

    rows: Rows
    values: Array | None = None
    within: Rows | None = None


class _Group(NamedTuple):
    """Arrays of one length that are hashed together, row by row; `owned`: with the owners of the rows."""

    names: tuple[str, ...]
    leaf: int
    owned: bool = False


class _Tree:
    """Hashes of a group: of its leaves, (L, 32), and of 64 of these, (ceil(L / 64), 32)."""

    def __init__(self) -> None:
        self.length = 0  # rows
        self.leaves = np.zeros((0, SIZE), np.uint8)
        self.branches = np.zeros((0, SIZE), np.uint8)

    def copy(self) -> _Tree:
        other = _Tree()
        other.length, other.leaves, other.branches = self.length, self.leaves.copy(), self.branches.copy()
        return other


class ModelDigest:
    """Hashes of a set of arrays and of the owners of their rows.

    Parameters
        tables: names of the arrays that have a row per item.
        pools: of arrays that share the places of a pool, the names by pool.
        scheme: which digest it is.
    """

    def __init__(
        self, tables: Iterable[str] = (), pools: Mapping[str, Iterable[str]] | None = None, scheme: int = SCHEME
    ) -> None:
        self.scheme = scheme
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._kinds: dict[str, str] = {}  # of numbers
        self._trees: dict[_Group, _Tree] = {}
        self._groups: dict[str, _Group] = {}
        self._owned: _Group | None = None
        if scheme != FIRST_SCHEME:
            self._owned = self._add(_Group(tuple(sorted(tables)), LEAF_ROWS, owned=True))
            for names in (pools or {}).values():
                self._add(_Group(tuple(sorted(names)), LEAF_PLACES))

    @classmethod
    def of(
        cls,
        weights: Mapping[str, Array],
        owners: Owners,
        tables: Iterable[str] = (),
        pools: Mapping[str, Iterable[str]] | None = None,
        scheme: int = SCHEME,
    ) -> ModelDigest:
        """That of whole arrays, and of the owners of their rows, None for a free one."""
        digest = cls(tables, pools, scheme)
        digest.update(weights, owners, dict.fromkeys(weights), range(len(owners)))
        return digest

    def update(
        self,
        weights: Mapping[str, Array],
        owners: Owners,
        changes: Mapping[str, Touched | None],
        reowned: Sequence[int] = (),
    ) -> Callable[[], None]:
        """Hash again what changed, and what grew.

        Parameters
            weights: all arrays.
            owners: of all rows, as they are now.
            changes: by array; None: all of it.
            reowned: rows whose owner changed.

        Returns
            What takes the change back.
        """
        shapes, kinds, undo = dict(self.shapes), dict(self._kinds), list[Callable[[], None]]()
        by_group: dict[_Group, dict[str, Touched | None]] = {
            group: {} for group, tree in self._trees.items() if _length(group, weights, owners) != tree.length
        }
        if self._owned is not None and len(reowned):
            by_group[self._owned] = {}
        for name, change in changes.items():
            group = self._groups.get(name) or self._add(_Group((name,), LEAF_ALONE))
            by_group.setdefault(group, {})[name] = change
        for group, changed in by_group.items():
            if self.scheme == FIRST_SCHEME and group.names[0] in LATER and not weights[group.names[0]].any():
                self.shapes.pop(group.names[0], None)  # as if a model of an earlier release lacked it
                continue
            undo.append(self._hash(group, weights, owners, changed, reowned))
            there = [name for name in group.names if name in weights]
            self.shapes |= {name: weights[name].shape for name in there}
            self._kinds |= {name: weights[name].dtype.newbyteorder("<").str for name in there}

        def back() -> None:
            self.shapes, self._kinds = shapes, kinds
            for one in undo:
                one()

        return back

    def value(self, owners: Owners, types: Sequence[str], config: ModelConfig) -> str:
        """The digest, 64 hexadecimal characters, of arrays, row owners, type vocabulary and configuration."""
        whole = hashlib.sha256()
        if self.scheme == FIRST_SCHEME:
            for name in sorted(self.shapes):
                whole.update(f"{name}{self.shapes[name]}".encode())
                whole.update(self._trees[self._groups[name]].leaves.tobytes())
            whole.update(json.dumps([list(owners), list(types), config.model_dump(mode="json")]).encode())
            return whole.hexdigest()
        for group, tree in sorted(self._trees.items()):
            shapes = [[name, *self._said_of(name)] for name in group.names if name in self.shapes]
            whole.update(orjson.dumps([shapes, tree.length]))
            whole.update(hashlib.sha256(tree.branches.tobytes()).digest())
        whole.update(orjson.dumps([self.scheme, list(types), config.model_dump(mode="json")]))
        return whole.hexdigest()

    def _said_of(self, name: str) -> tuple[Any, ...]:
        """What the digest says of an array beside its bytes."""
        return (self.shapes[name],) if self.scheme < KINDS_SCHEME else (self.shapes[name], self._kinds[name])

    def copy(self) -> ModelDigest:
        """An independent copy."""
        other = ModelDigest(scheme=FIRST_SCHEME)
        other.scheme, other.shapes, other._owned = self.scheme, dict(self.shapes), self._owned
        other._kinds = dict(self._kinds)
        other._groups = dict(self._groups)
        other._trees = {group: tree.copy() for group, tree in self._trees.items()}
        return other

    def _add(self, group: _Group) -> _Group:
        self._trees[group] = _Tree()
        self._groups |= dict.fromkeys(group.names, group)
        return group

    def _hash(
        self,
        group: _Group,
        weights: Mapping[str, Array],
        owners: Owners,
        changed: Mapping[str, Touched | None],
        reowned: Sequence[int],
    ) -> Callable[[], None]:
        """Hash the leaves of a group that changed; returns what takes it back."""
        tree, arrays = self._trees[group], {name: weights[name] for name in group.names if name in weights}
        before = tree.length, tree.leaves, tree.branches
        length = _length(group, weights, owners)
        count = -(-length // group.leaf)
        where = [np.arange(min(tree.length, length) // group.leaf if tree.length != length else count, count)]
        for change in changed.values():
            where.append(np.arange(count) if change is None else np.unique(np.asarray(change.rows) // group.leaf))
        if group.owned:
            where.append(np.unique(np.array(reowned, np.int64) // group.leaf))
        at = where[0] if len(where) == 1 else np.unique(np.concatenate(where))
        if count != len(tree.leaves):
            tree.leaves = _resized(tree.leaves, count)
            tree.branches = _resized(tree.branches, -(-count // BRANCH))
        old = tree.leaves[at]
        tree.length = length
        tree.leaves[at] = _hashes(list(_leaves(group, arrays, owners if group.owned else None, changed, at, length)))
        branches = np.unique(at // BRANCH)
        old_branches = tree.branches[branches]
        held, size = tree.leaves.reshape(-1).data, BRANCH * SIZE
        joined = [hashlib.sha256(held[i * size : (i + 1) * size]).digest() for i in branches.tolist()]
        tree.branches[branches] = _hashes(joined)

        def back() -> None:
            if before[1] is tree.leaves:
                tree.leaves[at], tree.branches[branches] = old, old_branches
            tree.length, tree.leaves, tree.branches = before

        return back


def hash_all(weights: Mapping[str, Array]) -> ModelDigest:
    """The first scheme's digest of whole arrays."""
    return ModelDigest.of(weights, (), scheme=FIRST_SCHEME)


def _length(group: _Group, weights: Mapping[str, Array], owners: Owners) -> int:
    """Rows of the arrays of a group."""
    if group.owned:
        return len(owners)
    return next((len(weights[name]) for name in group.names if name in weights), 0)


def _resized(hashes: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    made = np.zeros((count, SIZE), np.uint8)
    held = min(count, len(hashes))
    made[:held] = hashes[:held]
    return made


def _hashes(digests: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, SIZE)


def _leaves(
    group: _Group,
    arrays: Mapping[str, Array],
    owners: Owners | None,
    changed: Mapping[str, Touched | None],
    at: Rows,
    length: int,
) -> Iterator[bytes]:
    """The hashes of the leaves `at`, ascending, with the rows that change as they become."""
    leaf, whole = group.leaf, length // group.leaf  # of the leaves, those that are full
    width = sum(array.itemsize * math.prod(array.shape[1:]) for array in arrays.values()) * leaf
    slab, full = max(SLAB_BYTES // max(width, 1), 1), at[at < whole]
    for first in range(0, len(full), slab):
        some = full[first : first + slab]
        parts = [_bytes_of(array, changed.get(name), some, leaf, leaf) for name, array in arrays.items()]
        joined = (np.concatenate(parts, 1) if parts else np.zeros((len(some), 0), np.uint8)).tobytes()
        view = memoryview(joined)
        if owners is None:
            yield from (hashlib.sha256(view[i : i + width]).digest() for i in range(0, width * len(some), width or 1))
            if not width:
                yield from [hashlib.sha256().digest()] * len(some)
            continue
        for i, number in enumerate(some.tolist()):
            found = hashlib.sha256(view[i * width : (i + 1) * width])
            found.update(orjson.dumps(owners[number * leaf : (number + 1) * leaf]))
            yield found.digest()
    if len(full) < len(at):  # the last one has fewer rows
        rest = [_bytes_of(array, changed.get(name), at[-1:], leaf, length % leaf) for name, array in arrays.items()]
        found = hashlib.sha256(b"".join(part.tobytes() for part in rest))
        if owners is not None:
            found.update(orjson.dumps(owners[whole * leaf : length]))
        yield found.digest()


def _bytes_of(array: Array, touched: Touched | None, leaves: Rows, leaf: int, rows: int) -> NDArray[np.uint8]:
    """Bytes of some leaves, ascending, (k, w), each of as many rows, with those that change as they become."""
    width = math.prod(array.shape[1:])
    if rows == leaf:
        held = len(array) // leaf * leaf
        some = np.ascontiguousarray(array[:held]).reshape(held // leaf, leaf * width)[leaves]
    else:
        some = np.ascontiguousarray(array[leaves[0] * leaf :]).reshape(1, rows * width).copy()
    if touched is not None and touched.values is not None and len(touched.rows):
        changed = np.asarray(touched.rows)
        of = changed // leaf
        place = np.minimum(np.searchsorted(leaves, of), len(leaves) - 1)
        inside = leaves[place] == of
        at, values = place * rows + changed % leaf, touched.values
        if not inside.all():
            at, values = at[inside], values[inside]
        if touched.within is None:
            some.reshape(len(leaves) * rows, *array.shape[1:])[at] = values
        else:
            within = touched.within if inside.all() else touched.within[inside]
            some.reshape(len(leaves) * rows, width)[at, within] = values
    return some.view(np.uint8) if width and rows else np.zeros((len(leaves), 0), np.uint8)
