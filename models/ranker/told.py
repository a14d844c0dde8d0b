"""What an app tells of the moment and of the user, as numbers: context of requests and events, attributes of users.

Before: examples, and requests, with the same context and attributes. After: `facts` puts these numbers behind its own,
in learner and serving alike. Texts are hashed into a few columns, so that no value has to be known beforehand; numbers
go by their logarithm, and the network standardises each column. What was not told is 0. Knows no rows and no clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig

__all__ = ["told_count", "told_names", "told_of"]

CONTEXT_COLUMNS, ATTRIBUTE_COLUMNS = 6, 6
"""Of each field that counts; the first of an attribute is for numbers."""


def told_count(config: ModelConfig) -> int:
    """How many numbers `told_of` gives."""
    return CONTEXT_COLUMNS * len(config.context_fields) + ATTRIBUTE_COLUMNS * len(config.user_fields)


def told_names(config: ModelConfig) -> list[str]:
    """Their names, in order."""
    kinds = (("context", config.context_fields, CONTEXT_COLUMNS), ("user", config.user_fields, ATTRIBUTE_COLUMNS))
    return [
        f"{kind} {field} {column}" for kind, fields, columns in kinds for field in fields for column in range(columns)
    ]


def told_of(config: ModelConfig, context: Mapping[str, Any], attributes: Mapping[str, Any]) -> NDArray[np.float32]:
    """The numbers, (told_count,) float32.

    Parameters
        config: names the fields that count; others are passed over.
        context: as `headwater.context.named` leaves it.
        attributes: of `headwater.users`.
    """
    told = np.zeros(told_count(config), np.float32)
    for place, field in enumerate(config.context_fields):
        value = context.get(field)
        if value is not None:
            told[place * CONTEXT_COLUMNS + _hashed(f"{field}={_text(value)}") % CONTEXT_COLUMNS] = 1.0
    at = CONTEXT_COLUMNS * len(config.context_fields)
    for field in config.user_fields:
        _tell_attribute(field, attributes.get(field), told[at : at + ATTRIBUTE_COLUMNS])
        at += ATTRIBUTE_COLUMNS
    return told


def _tell_attribute(field: str, value: Any, columns: NDArray[np.float32]) -> None:
    if value is None:
        return
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        columns[0] = math.copysign(math.log1p(abs(value)), value)
        return
    several = value if isinstance(value, (list, tuple)) else (value,)
    for one in several:
        columns[1 + _hashed(f"{field}={_text(one)}") % (ATTRIBUTE_COLUMNS - 1)] += 1.0 / len(several)


def _text(value: Any) -> str:
    """The same for 1 and 1.0, which are one number in JSON."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


@lru_cache(maxsize=65_536)
def _hashed(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
