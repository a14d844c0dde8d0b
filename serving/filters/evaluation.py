"""A filter's tree over all fields of a catalogue: each node is a mask over slots."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import orjson

from headwater.errors import RequestRefused
from headwater.filters import AllOf, AnyOf, Equal, Exists, Filter, Near, Not, Within, read_filters
from headwater.spelling import did_you_mean
from serving.filters.field import FilterField, Instant
from serving.filters.values import Mask, Scalar, Slots

__all__ = ["Fields", "KeptMask", "filter_key"]

KNOWN_FIELDS_NAMED = 20
COMPARED_NAMES = 200


def filter_key(filters: Mapping[str, Any], place: str, *, unknown_ok: bool) -> bytes:
    """The same bytes for the same filter. Raises RequestRefused for what is none."""
    try:
        return (b"?" if unknown_ok else b"") + orjson.dumps(filters, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:  # nested too deep, or values that JSON has not
        read_filters(filters, place)
        raise RequestRefused("bad_filter", f"{place:.200}: cannot be written as JSON ({error!s:.80}).") from error


class KeptMask(NamedTuple):
    """A mask over slots, and between which instants (epoch ms, both are out) it stays as it is."""

    mask: Mask
    after_ms: float
    before_ms: float

    def holds(self, now_ms: int) -> bool:
        """Whether the mask is right at an instant, epoch ms."""
        return self.after_ms < now_ms < self.before_ms


class Fields:
    """Every field that an item has, by name."""

    def __init__(self) -> None:
        self._fields: dict[str, FilterField] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def add(self, slot: int, values: Mapping[str, Sequence[Scalar]]) -> None:
        """What an item has, by field."""
        for name, some in values.items():
            field = self._fields.get(name)
            if field is None:
                field = self._fields[name] = FilterField(name)
            field.add(slot, some)

    def discard(self, slot: int, values: Mapping[str, Sequence[Scalar]]) -> None:
        """Take away what `add` was given."""
        for name, some in values.items():
            field = self._fields[name]
            field.discard(slot, some)
            if not field:
                del self._fields[name]

    def matching(self, tree: Filter, known: Mask, now_ms: int, *, unknown_ok: bool = False) -> KeptMask:
        """Which items meet a filter.

        Parameters
            tree: of `headwater.filters.read_filters`.
            known: the slots of items whose fields are known, (slots,) bool; no other meets any filter.
            now_ms: epoch ms.
            unknown_ok: of a field that no item has just now, no item meets a condition, and nothing is refused.

        Raises
            RequestRefused: `unknown_field` when no item has a field, `bad_filter` when a condition means nothing for
                what the field holds.
        """
        instant = Instant(now_ms)
        mask = _Evaluation(self._fields, known, instant, unknown_ok).mask(tree)
        return KeptMask(mask, instant.after_ms, instant.before_ms)


class _Evaluation(NamedTuple):
    """One filter over all fields."""

    fields: Mapping[str, FilterField]
    known: Mask
    instant: Instant
    unknown_ok: bool

    def mask(self, tree: Filter) -> Mask:
        match tree:
            case AllOf(parts):
                mask = self.known.copy()
                for part in parts:
                    mask &= self.mask(part)
                return mask
            case AnyOf(parts):
                mask = np.zeros(len(self.known), bool)
                for part in parts:
                    mask |= self.mask(part)
                return mask
            case Not(part):
                return self.known & ~self.mask(part)
        mask = np.zeros(len(self.known), bool)
        for slots in self._slots(tree):
            mask[slots] = True
        return mask

    def _slots(self, tree: Equal | Within | Exists | Near) -> Iterable[Slots]:
        if isinstance(tree, Exists):
            within = f"{tree.field}."
            names = [name for name in self.fields if name == tree.field or name.startswith(within)]
            return [slots for name in names for slots in self.fields[name].existing()]
        field = self.fields.get(tree.field)
        if field is None and self.unknown_ok:
            return []
        if field is None:
            text = f"{tree.place:.200}: no item has a field {tree.field!r:.80}. {self._remedy(tree.field)}"
            raise RequestRefused("unknown_field", text)
        match tree:
            case Equal():
                return field.equal(tree)
            case Near():
                return [field.near(tree)]
            case _:
                return field.within(tree, self.instant)

    def _remedy(self, name: str) -> str:
        if not self.fields:
            return "Known fields: none yet: no item with fields has arrived on `items`."
        names = ", ".join(f"{known:.80}" for known in heapq.nsmallest(KNOWN_FIELDS_NAMED, self.fields))
        more = len(self.fields) - KNOWN_FIELDS_NAMED
        text = f"Known fields: {names}." if more <= 0 else f"Known fields: {names} and {more:,} more."
        if name == "item_id":
            return f"{text} Ids are for `candidates` and `exclude`."
        return text + did_you_mean(name, islice(self.fields, COMPARED_NAMES))
