"""Google Analytics 4 as it exports to BigQuery: rows of `events_YYYYMMDD`, written out as JSON Lines or parquet.

Before: https://support.google.com/analytics/answer/7029846 (the schema) and
https://developers.google.com/analytics/devguides/collection/ga4/ecommerce (its events). After: `known`.

Each of `items` is an event; those of `view_item_list` are one with the list; an event without any is of the item that
its parameters name, if they do (`article_id`, `content_id`). `event_timestamp` is in microseconds, as text in JSON. Who
is `user_id`, else `user_pseudo_id`, the guest that a user was; without consent there is neither, and no user to
learn of. A session is `ga_session_id` of `event_params`, which only its `user_pseudo_id` makes unique. An `item_id` of
`(not set)` is none.
"""

from __future__ import annotations

from typing import Any

from replay.sources.formats.known import Happening, JsonFormat, Record, id_in
from replay.sources.ids import is_missing
from replay.sources.raw import LeftOut
from replay.sources.reading import Begin

__all__ = ["GoogleAnalytics"]

KINDS_OF_VALUE = ("string_value", "int_value", "float_value", "double_value")


class GoogleAnalytics(JsonFormat):
    """The events table of a BigQuery export."""

    name = "ga4"
    told = "events of Google Analytics 4, as exported to BigQuery"

    def is_here(self, begin: Begin) -> bool:
        """Whether the first objects are rows of the table, with what is nested in them."""
        rows = [one for one in begin.objects if {"event_name", "event_timestamp"} <= one.keys()]
        nested = any(one.keys() & {"event_params", "items"} for one in rows)
        return nested and len(rows) * 2 > len(begin.objects)

    def happening(self, record: Record) -> Happening | LeftOut:
        """What a row tells."""
        user, guest = record.get("user_id"), record.get("user_pseudo_id")
        known = _params(record.get("event_params"))
        record["event_params"] = known  # so that a person can name event_params.page_location
        session = known.get("ga_session_id")
        if not is_missing(session):
            session = f"{guest}.{session}"
        user = guest if is_missing(user) else user
        bought = record.get("ecommerce")
        order = bought.get("transaction_id") if isinstance(bought, dict) else None
        items = record.get("items")
        if not isinstance(items, list) or not items:
            items = [] if id_in(known) is None else [known]
        return Happening(
            record.get("event_name"), user, guest, record.get("event_timestamp"), items, session=session,
            request=known.get("request_id"), order=known.get("transaction_id") if is_missing(order) else order,
            nobody="without user_pseudo_id (no consent)",
            is_page=record.get("event_name") in ("page_view", "screen_view"),
        )  # fmt: skip


def _params(given: Any) -> dict[str, Any]:
    """`[{"key": k, "value": {"int_value": v}}, ...]` as a mapping."""
    found: dict[str, Any] = {}
    for one in given if isinstance(given, list) else ():
        value = one.get("value") if isinstance(one, dict) else None
        if isinstance(value, dict):
            found[str(one.get("key"))] = next(
                (value[kind] for kind in KINDS_OF_VALUE if not is_missing(value.get(kind))), None
            )
    return found
