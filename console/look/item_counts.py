"""What the store has counted of single items: by meaning and by type, and how often each is liked when it could be.

Before: the streams worker counts. After: `headwater signals --counted` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headwater.settings import Settings
from streams.features.decay import positive_rate
from streams.features.store import FeatureStore

__all__ = ["counted", "told"]


def counted(settings: Settings, item_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Counts and the smoothed positive rate of these items, and the rate of all items together.

    Raises
        Unavailable: the store does not answer.
    """
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        every, found = store.totals(), store.item_statistics(item_ids)
    finally:
        store.close()
    return {
        item_id: {
            "positive": one.positive,
            "negative": one.negative,
            "exposures": one.exposures,
            "positive_rate": round(positive_rate(one, every), 6),
            "positive_rate_of_all": round(positive_rate(every, every), 6),
            "types": dict(sorted(one.counts.items())),
        }
        for item_id, one in zip(item_ids, found, strict=True)
    }


def told(item_id: str, body: dict[str, Any]) -> str:
    """One line of it."""
    if not body["types"]:
        return f"{item_id}: no event is counted of it"
    types = ", ".join(f"{kind} {count:,}" for kind, count in body["types"].items())
    return (
        f"{item_id}: {body['positive']:,} positive, {body['negative']:,} negative, {body['exposures']:,} exposures "
        f"({types}); liked on {body['positive_rate']:.1%} of its occasions, all items on "
        f"{body['positive_rate_of_all']:.1%}"
    )
