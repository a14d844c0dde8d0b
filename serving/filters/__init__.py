"""Filters: which items meet what a request or a surface says of them, as masks over slots.

    values      what an item has that filters may name
    packed      pairs of slot and value, as columns
    field       one field: values of every kind that it holds, compared
    evaluation  a filter's tree over all fields

Before: `serving.catalogue` adds and takes away the values of items. Knows nothing of requests, and no clock.
"""

from serving.filters.evaluation import Fields, KeptMask, filter_key
from serving.filters.field import Instant
from serving.filters.values import Mask, Point, Scalar, fields_of

__all__ = [
    "Fields",
    "Instant",
    "KeptMask",
    "Mask",
    "Point",
    "Scalar",
    "fields_of",
    "filter_key",
]
