"""A filter's tree over all fields of a catalogue: each node is a mask over slots."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import orjson

from headwater.errors import RequestRefused
from headwater.filters import AllOf, AnyOf, Equal, Exists, Filter, Near, Not, Within, read_filters
from serving.filters.field import FilterField, Instant
from serving.filters.values import Mask, Scalar, Slots

__all__ = ["Fields", "KeptMask", "filter_key"]

KNOWN_FIELDS_NAMED = 20
COMPARED_NAMES = 200


def filter_key(filters: Mapping[str, Any], place: str) -> bytes:
    """The same bytes for the same filter. Raises RequestRefused for what is none."""
    try:
        return orjson.dumps(filters, option=orjson.OPT_SORT_KEYS)
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

    def matching(self, tree: Filter, known: Mask, now_ms: int) -> KeptMask:
        """Which items meet a filter.

        Parameters
            tree: of `headwater.filters.read_filters`.
            known: the slots of items whose fields are known, (slots,) bool; no other meets any filter.
            now_ms: epoch ms.

        Raises
            RequestRefused: `unknown_field` when no item has a field, `bad_filter` when a condition means nothing for
                what the field holds.
        """
        instant = Instant(now_ms)
        mask = self._mask(tree, known, instant)
        return KeptMask(mask, instant.after_ms, instant.before_ms)

    def _mask(self, tree: Filter, known: Mask, instant: Instant) -> Mask:
        match tree:
            case AllOf(parts):
                mask = known.copy()
                for part in parts:
                    mask &= self._mask(part, known, instant)
                return mask
            case AnyOf(parts):
                mask = np.zeros(len(known), bool)
                for part in parts:
                    mask |= self._mask(part, known, instant)
                return mask
            case Not(part):
                return known & ~self._mask(part, known, instant)
        mask = np.zeros(len(known), bool)
        for slots in self._slots(tree, instant):
            mask[slots] = True
        return mask

    def _slots(self, tree: Equal | Within | Exists | Near, instant: Instant) -> Iterable[Slots]:
        match tree:
            case Exists():
                within = f"{tree.field}."
                fields = [
                    field for name, field in self._fields.items() if name == tree.field or name.startswith(within)
                ]
                return [slots for field in fields for slots in field.existing()]
            case Equal():
                return self._named(tree).equal(tree)
            case Near():
                return [self._named(tree).near(tree)]
            case _:
                return self._named(tree).within(tree, instant)

    def _named(self, tree: Equal | Within | Near) -> FilterField:
        field = self._fields.get(tree.field)
        if field is None:
            text = f"{tree.place:.200}: no item has a field {tree.field!r:.80}. {self._remedy(tree.field)}"
            raise RequestRefused("unknown_field", text)
        return field

    def _remedy(self, name: str) -> str:
        if not self._fields:
            return "Known fields: none yet: no item with fields has arrived on `items`."
        names = ", ".join(f"{known:.80}" for known in heapq.nsmallest(KNOWN_FIELDS_NAMED, self._fields))
        more = len(self._fields) - KNOWN_FIELDS_NAMED
        text = f"Known fields: {names}." if more <= 0 else f"Known fields: {names} and {more:,} more."
        if name == "item_id":
            return f"{text} Ids are for `candidates` and `exclude`."
        near = {known[:80].lower(): known for known in islice(self._fields, COMPARED_NAMES)}
        close = difflib.get_close_matches(name[:80].lower(), near, 1, 0.7)
        return f"{text} Did you mean {near[close[0]]:.80}?" if close else text
