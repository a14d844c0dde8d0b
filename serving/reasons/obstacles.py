"""Obstacles: the rules that keep one item out of one list, each with what it is about the item.

Before: a request that asks `why_not`. After: `why_not` tells them. Knows no scores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from headwater.examples import Entry
from headwater.filters import AllOf, AnyOf, Filter, Not, read_filters
from headwater.recommendations import Request
from headwater.signals import Signals
from headwater.surfaces import Surface
from models.exclusion import disliked
from serving.filters import Point
from serving.rules import Rows, seen_items

__all__ = ["Asker", "Obstacle", "obstacles"]

UNKNOWN, UNAVAILABLE, EXPIRED, EXCLUDED, FILTERED = "unknown", "unavailable", "expired", "excluded", "filtered"


class Obstacle(NamedTuple):
    """What keeps an item out: a stage of `WhyNot`, and in words."""

    stage: str
    text: str


class Asker(NamedTuple):
    """Whose list it is, and by which rules.

    Fields
        request: with the surface's word where it says nothing.
        surface: by which it is answered.
        history: that it is answered from, oldest first.
        at_ms: the instant, epoch ms.
        exclude_seen: the worker's rule.
        returning: types after which users come back to an item.
        meanings: what events mean.
    """

    request: Request
    surface: Surface
    history: Sequence[Entry]
    at_ms: int
    exclude_seen: Collection[str]
    returning: Collection[str]
    meanings: Signals


def obstacles(item_id: str, rows: Rows, has_row: bool, asker: Asker) -> list[Obstacle]:
    """All that keeps an item out, in the order in which it would be lost.

    Parameters
        item_id: that is asked about.
        rows: the catalogue by its own slots.
        has_row: whether the model knows the item.
        asker: who asks.
    """
    catalogue = rows.catalogue
    slot, item = catalogue.slots.get(item_id), catalogue.get(item_id)
    if item is None and not has_row:
        if slot is not None and rows.blocked(asker.at_ms)[slot]:
            return [Obstacle(UNAVAILABLE, "it was removed from the catalogue")]
        if slot is None:
            text = "neither the catalogue nor the model knows an item of this id: check it, or send the item to `items`"
            return [Obstacle(UNKNOWN, text)]
        return [Obstacle(UNKNOWN, "the catalogue does not have it, and the model has not learned enough events of it")]
    return [*_of_the_item(item_id, rows, asker), *_of_the_request(item_id, asker), *_of_filters(item_id, rows, asker)]


def _of_the_item(item_id: str, rows: Rows, asker: Asker) -> Iterator[Obstacle]:
    catalogue = rows.catalogue
    item = catalogue.get(item_id)
    if item is None:
        if rows.blocked(asker.at_ms)[catalogue.slot(item_id)]:
            yield Obstacle(UNAVAILABLE, "it was removed from the catalogue")
        return
    if not item.available:
        yield Obstacle(UNAVAILABLE, "the catalogue says that it is not available")
    gone_ms = item.gone_ms
    if gone_ms is not None and gone_ms <= asker.at_ms:
        yield Obstacle(EXPIRED, f"it expired at {_time(gone_ms)} (expires_time)")


def _of_the_request(item_id: str, asker: Asker) -> Iterator[Obstacle]:
    request, history, at_ms = asker.request, asker.history, asker.at_ms
    if item_id == request.context_item:
        yield Obstacle(EXCLUDED, "it is the item on the page (context_item)")
    if item_id in request.exclude:
        yield Obstacle(EXCLUDED, "the request leaves it out (exclude)")
    rule = asker.exclude_seen if request.exclude_seen is None else request.exclude_seen
    own = [entry for entry in history if entry.item_id == item_id]
    if item_id in seen_items(request, history, rule, asker.returning, at_ms, asker.meanings):
        entry = next((one for one in reversed(own) if one.type in rule), own[-1])
        told = ", ".join(rule)
        days = "" if request.exclude_seen_days is None else f" of the last {request.exclude_seen_days:g} days"
        yield Obstacle(EXCLUDED, f"it is seen: {_event(entry)} counts for exclude_seen = {told}{days}")
    if item_id in disliked(((one.item_id, one) for one in own), asker.meanings, at_ms):
        yield Obstacle(EXCLUDED, f"the user turned it down: {_event(own[-1])}")
    if request.candidates is not None and item_id not in request.candidates:
        yield Obstacle(FILTERED, f"it is not among the {len(request.candidates):,} candidates of the request")


def _of_filters(item_id: str, rows: Rows, asker: Asker) -> Iterator[Obstacle]:
    catalogue = rows.catalogue
    slot = catalogue.slot(item_id)
    for place, filters in (("filters", asker.request.filters), ("surface.filters", asker.surface.filters)):
        for name, condition in filters.items():
            unknown_ok = filters is not asker.request.filters
            if rows.matching_all({name: condition}, asker.at_ms, place, unknown_ok=unknown_ok)[slot]:
                continue
            if catalogue.get(item_id) is None:
                yield Obstacle(FILTERED, f"only events have told of it, so that it meets no {place}")
                return
            fields = dict.fromkeys(_fields(read_filters({name: condition}, place)))
            values = {field: list(catalogue.values(field, [slot])[0]) for field in fields}
            yield Obstacle(FILTERED, f"it does not meet {place}: {name} = {_json(condition)}; {_has(values)}")


def _has(values: Mapping[str, Sequence[Any]]) -> str:
    told = []
    for name, held in values.items():
        if not held:
            told.append(f"it has no {name}")
        else:
            told.append(f"its {name} is {_json(held[0] if len(held) == 1 else held)}")
    return ", ".join(told)


def _json(value: Any) -> str:
    return f"{orjson.dumps(value, default=Point._asdict).decode():.200}"


def _fields(tree: Filter) -> Iterator[str]:
    match tree:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _fields(part)
        case Not(part):
            yield from _fields(part)
        case _:
            yield tree.field


def _event(entry: Entry) -> str:
    value = "" if entry.value is None else f" of {entry.value:g}"
    return f"the {entry.type}{value} at {_time(entry.time_ms)}"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
