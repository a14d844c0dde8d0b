"""The size of an answer: it fits into one Kafka message, without its reasons if that is what it takes.

Before: a finished answer. After: `serving.answering` sends its bytes, or refuses where there are none.
"""

from __future__ import annotations

from typing import Any

from headwater.recommendations import REASONS_LEFT_OUT, Recommendation
from headwater.wire import encode

__all__ = ["sendable", "without_reasons"]

MAX_ANSWER_BYTES = 1_000_000
"""Largest answer sent; with key and headers it stays below the producer's default limit, 1,048,576 bytes."""


def sendable(answer: Recommendation) -> bytes | None:
    """The answer's bytes, without its reasons if it is too large with them; None when it is too large even so."""
    value = encode(answer)
    if len(value) > MAX_ANSWER_BYTES:
        value = encode(without_reasons(answer))
    return value if len(value) <= MAX_ANSWER_BYTES else None


def without_reasons(answer: Recommendation) -> Recommendation:
    """The answer without its reasons, in words and in numbers, and a note of that in its receipt."""
    policy = (*answer.receipt.policy, REASONS_LEFT_OUT)
    receipt = answer.receipt.model_copy(update={"policy": policy})
    nothing: dict[str, Any] = {"reasons": (), "contributions": {}, "because": ()}
    items = tuple(item.model_copy(update=nothing) for item in answer.items)
    return answer.model_copy(update={"items": items, "receipt": receipt})
