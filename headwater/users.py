"""What an app knows of its users beside what they do: attributes such as plan, country, year of birth.

Before: `Client.put_users`, or any Kafka client writing the JSON by hand. After: the streams worker keeps the newest of
each user, beside what it remembers of that user; examples and answers read both together. Knows nothing of Kafka.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from headwater.events import Finite, Id, at_most

__all__ = ["MAX_ATTRIBUTES", "User", "checked_attributes"]

MAX_ATTRIBUTES = 64
"""Most attributes of one user."""

MAX_TEXTS = 32
"""Most texts of one attribute."""

Name = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=256)]
Texts = Annotated[tuple[Text, ...], Field(fail_fast=True, max_length=MAX_TEXTS)]


def _without_nulls(given: Any) -> Any:
    """An attribute that is null is none."""
    return {name: one for name, one in given.items() if one is not None} if isinstance(given, dict) else given


class User(BaseModel):
    """Attributes of one user. On the `users` topic its key is `user_id`; one replaces the one before, whole, and a null
    value erases them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: Id
    attributes: Annotated[
        dict[Name, bool | Finite | Text | Texts],
        Field(max_length=MAX_ATTRIBUTES),
        at_most(MAX_ATTRIBUTES),
        BeforeValidator(_without_nulls),
    ] = Field(
        default_factory=dict,
        description='A number, a text, a truth or a list of texts by name: {"plan": "family", "born": 1990}. '
        "Numbers count by their size, texts by being equal.",
    )


def checked_attributes(given: Any) -> dict[str, Any]:
    """Attributes as `User` takes them. Raises ValueError (pydantic's) for what are none.

    >>> checked_attributes({"plan": "family", "born": 1990, "seen": None})
    {'plan': 'family', 'born': 1990.0}
    """
    return User(user_id="-", attributes=given).attributes if given else {}
