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


MOST_REWARD = 1000.0
"""Most that one event can be worth: more would be all that is learned."""

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

_PER_VALUE = re.compile(r"\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*\*\s*value\s*\Z")


def _reward(given: str) -> str:
    if _PER_VALUE.match(given) is None:
        raise ValueError(f'{given!r} is no reward: write a number, or a multiple of the value, such as "0.01 * value"')
    return given


Reward = Annotated[str, AfterValidator(_reward)]


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
        description="How much a positive event weighs as a target (its reward unless set), or how much a negative one "
        "sinks what is like its item (4 where every event of the type is negative, 1 where the value decides).",
    )
    reward: float | Reward = Field(
        default=1.0,
        exclude_if=lambda reward: reward == 1.0,
        description='What a positive event is worth to the business: a number, or a multiple of the value: "0.01 * '
        'value".',
    )
    undoes: tuple[str, ...] = Field(
        default=(),
        max_length=16,
        exclude_if=lambda types: not types,
        description="Types of which an event of this one takes back the newest earlier event of the same user and "
        "item: an unlike undoes a like. Such an event is context by itself.",
    )
    negative_for_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        exclude_if=lambda days: days is None,
        description="For how long a negative event keeps its item from its user; for ever unless set.",
    )

    @model_validator(mode="after")
    def _one_meaning(self) -> Signal:
        if self.by_value and self.means is not Meaning.POSITIVE:
            raise ValueError(
                "means holds for every value, positive and negative are thresholds on it: give one of them"
            )
        if not isinstance(self.reward, str) and not 0 <= self.reward <= MOST_REWARD:
            raise ValueError(f"a reward of {self.reward} is not between 0 and {MOST_REWARD:,}")
        if self.undoes and self.means is not Meaning.CONTEXT:
            if self.by_value or "means" in self.model_fields_set:
                raise ValueError("an event that undoes others says nothing else: leave means and thresholds out")
            object.__setattr__(self, "means", Meaning.CONTEXT)
        return self

    @property
    def force(self) -> float:
        """The weight in force of a type whose reward does not depend on the value."""
        if self.weight is not None:
            return self.weight
        if self.means is Meaning.NEGATIVE:
            return TURNED_DOWN
        return 1.0 if isinstance(self.reward, str) else self.reward

    def reward_of(self, value: float | None) -> float:
        """What an event of this type with this value is worth, from 0; of no value nothing, where it is by the value.

        >>> Signal(reward=10).reward_of(None), Signal(reward="0.01 * value").reward_of(300.0)
        (10.0, 3.0)
        """
        if not isinstance(self.reward, str):
            return float(self.reward)
        found = _PER_VALUE.match(self.reward)
        assert found is not None  # validated
        return min(max(float(found[1]) * (value or 0.0), 0.0), MOST_REWARD)

    def weight_of(self, value: float | None) -> float:
        """How much an event of this type with this value weighs: its weight, or its reward."""
        return self.reward_of(value) if self.weight is None and isinstance(self.reward, str) else self.force

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


_UNDO = {
    "unlike": "like love",
    "unfavorite": "favorite favourite fav",
    "unsave": "save",
    "remove_bookmark": "bookmark",
    "remove_from_wishlist": "wishlist",
    "remove_from_cart": "cart add_to_cart addtocart",
    "refund": "purchase buy transaction order",
    "return": "purchase buy transaction order",
    "cancel": "booking reservation order",
    "unfollow": "follow",
    "unsubscribe": "subscribe",
    "undislike": "dislike thumbs_down downvote hate",
    "undismiss": "dismiss not_interested",
    "unhide": "hide",
    "unblock": "block",
    "unmute": "mute",
}


def _defaults() -> dict[str, Signal]:
    groups: list[tuple[str, dict[str, Any]]] = [
        (
            "view click cart add_to_cart addtocart begin_checkout purchase buy transaction order like love favorite "
            "favourite fav bookmark save wishlist share comment reply rating review watch read listen play stream "
            "follow subscribe download install open visit clickout booking reservation",
            {},
        ),
        (
            "dismiss dislike hate skip report hide block not_interested thumbs_down downvote mute",
            {"means": Meaning.NEGATIVE},
        ),
        ("impression impressions shown exposure display served view_item_list list_view", {"means": Meaning.EXPOSURE}),
        ("search query page_view pageview screen login logout", {"means": Meaning.CONTEXT}),
    ]
    table = {name: Signal(**given) for names, given in groups for name in names.split()}
    return table | {name: Signal(undoes=tuple(undone.split())) for name, undone in _UNDO.items()}


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
        self.undoing = {name: frozenset(one.undoes) for name, one in self.table.items() if one.undoes}
        """Type -> the types that an event of it undoes."""
        self.undoable = frozenset(kind for kinds in self.undoing.values() for kind in kinds)
        self.turned_down = frozenset(
            name for name, one in self.table.items() if not one.by_value and one.means is Meaning.NEGATIVE
        )
        """The types of which every event is negative."""
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
