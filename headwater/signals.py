"""What an event means, by its type and value: one table for features, statistics, learner, backtest and serving.

Before: the settings `[signals.NAME]` over the defaults below. After: whoever asks whether an event speaks for its item
or against it. The table is part of the model's configuration, so that a checkpoint and a bundle carry the meaning that
they were learned under. Knows nothing of Kafka, of rows or of weights.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

__all__ = ["DEFAULTS", "Meaning", "Signal", "Signals"]


class Meaning(str, Enum):
    """What an event says of its item.

    POSITIVE: for it: a target of learning, and it counts for popularity.
    NEGATIVE: against it: not this, for this user.
    EXPOSURE: it was shown.
    CONTEXT: neither; the event may stand in the history and teaches nothing of its item.
    """

    POSITIVE = "positive"
    NEGATIVE = "negative"
    EXPOSURE = "exposure"
    CONTEXT = "context"


TURNED_DOWN = 4.0
"""Weight of a type that is always negative. One star is given to what was consumed, and says less against its kind."""

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
_THRESHOLD = re.compile(r"\s*(>=|<=|==|>|<)\s*([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*\Z")


def _threshold(text: str) -> str:
    if _THRESHOLD.match(text) is None:
        raise ValueError(f'{text!r} is no threshold: write a comparison and a number, such as ">= 4"')
    return text


Threshold = Annotated[str, AfterValidator(_threshold)]


class Signal(BaseModel):
    """What one type of event means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    means: Meaning = Field(
        default=Meaning.POSITIVE, description="positive, negative, exposure or context, whatever the value."
    )
    positive: Threshold | None = Field(
        default=None,
        description='Positive only where the value compares so: ">= 4". With a threshold, an event that no threshold '
        "holds for, or that has no value, is context.",
    )
    negative: Threshold | None = Field(default=None, description='Negative where the value compares so: "<= 2".')
    weight: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="How much a positive event weighs as a target (1 unless set), or how much a negative one sinks "
        "what is like its item (4 where every event of the type is negative, 1 where the value decides).",
    )

    @model_validator(mode="after")
    def _one_meaning(self) -> Signal:
        if (self.positive or self.negative) and "means" in self.model_fields_set:
            raise ValueError(
                "means holds for every value, positive and negative are thresholds on it: give one of them"
            )
        return self

    @property
    def force(self) -> float:
        """The weight in force."""
        if self.weight is not None:
            return self.weight
        return TURNED_DOWN if self.means is Meaning.NEGATIVE else 1.0

    @property
    def by_value(self) -> bool:
        """Whether the meaning depends on the value."""
        return bool(self.positive or self.negative)

    def meaning(self, value: float | None) -> Meaning:
        """What an event of this type with this value means.

        >>> Signal(positive=">= 4", negative="<= 2").meaning(3.0).value
        'context'
        """
        if not self.by_value:
            return self.means
        if value is not None:
            if self.positive and _holds(self.positive, value):
                return Meaning.POSITIVE
            if self.negative and _holds(self.negative, value):
                return Meaning.NEGATIVE
        return Meaning.CONTEXT


def _holds(threshold: str, value: float) -> bool:
    found = _THRESHOLD.match(threshold)
    assert found is not None  # validated
    return _COMPARISONS[found[1]](value, float(found[2]))


def _defaults() -> dict[str, Signal]:
    groups: list[tuple[str, dict[str, Any]]] = [
        (
            "view click cart add_to_cart addtocart purchase buy transaction order like love favorite favourite fav "
            "bookmark save wishlist share comment reply rating review watch read listen play stream follow subscribe "
            "download install open visit clickout booking reservation",
            {},
        ),
        (
            "dismiss dislike hate skip report hide block not_interested thumbs_down downvote mute",
            {"means": Meaning.NEGATIVE},
        ),
        ("impression impressions shown exposure display served", {"means": Meaning.EXPOSURE}),
        (
            "search query page_view pageview screen login logout unlike unfavorite remove_bookmark "
            "remove_from_wishlist remove_from_cart refund return cancel unfollow unsubscribe undislike undismiss "
            "unhide unblock",
            {"means": Meaning.CONTEXT},
        ),
    ]
    return {name: Signal(**given) for names, given in groups for name in names.split()}


DEFAULTS: Mapping[str, Signal] = _defaults()
"""What common names mean. Any other type is positive with weight 1."""

UNKNOWN = Signal()


class Signals:
    """The table in force.

    Parameters
        given: type -> Signal, over the defaults.

    >>> table = Signals({"rating": Signal(positive=">= 4")})
    >>> table.meaning("rating", 5.0).value, table.meaning("dismiss", None).value, table.meaning("poke", None).value
    ('positive', 'negative', 'positive')
    """

    def __init__(self, given: Mapping[str, Signal] | None = None) -> None:
        self.table = {**DEFAULTS, **(given or {})}
        self._fixed = {  # most types mean the same whatever the value: one look-up on the hot path
            name: one.meaning(None) for name, one in self.table.items() if not one.by_value
        }

    def speaks(self, event_type: str, value: float | None) -> float:
        """1 for an event that speaks for its item, less its weight for one that speaks against it, 0 for any other."""
        meaning = self.meaning(event_type, value)
        if meaning is Meaning.NEGATIVE:
            return -self.of(event_type).force
        return 1.0 if meaning is Meaning.POSITIVE else 0.0

    def of(self, event_type: str) -> Signal:
        """The signal of a type; an unknown one is positive with weight 1."""
        return self.table.get(event_type, UNKNOWN)

    def knows(self, event_type: str) -> bool:
        """Whether the table names the type."""
        return event_type in self.table

    def against(self, event_types: Iterable[str]) -> bool:
        """Whether an event of one of the types may speak against its item."""
        return any(one.negative or one.means is Meaning.NEGATIVE for one in map(self.of, event_types))

    def meaning(self, event_type: str, value: float | None) -> Meaning:
        """What an event means."""
        fixed = self._fixed.get(event_type)
        return self.of(event_type).meaning(value) if fixed is None else fixed
