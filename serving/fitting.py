"""Answers that fit into one Kafka message: without reasons if that is what it takes.

Before: a finished answer. After: `serving.answering` sends its bytes, or refuses where there are none.
"""

from __future__ import annotations

from headwater.recommendations import Recommendation
from headwater.wire import encode

__all__ = ["MAX_ANSWER_BYTES", "fitting"]

MAX_ANSWER_BYTES = 1_000_000
"""Largest answer sent; with key and headers it stays below the producer's default limit, 1,048,576 bytes."""

NO_REASONS = " reasons=left_out"


def fitting(answer: Recommendation) -> bytes | None:
    """The answer's bytes; None when it is too large even without reasons. A policy says what was left out."""
    value = encode(answer)
    if len(value) <= MAX_ANSWER_BYTES:
        return value
    receipt = answer.receipt.model_copy(update={"policy": answer.receipt.policy + NO_REASONS})
    items = tuple(item.model_copy(update={"reasons": ()}) for item in answer.items)
    value = encode(answer.model_copy(update={"items": items, "receipt": receipt}))
    return value if len(value) <= MAX_ANSWER_BYTES else None
