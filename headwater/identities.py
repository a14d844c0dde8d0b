"""Who somebody is: a guest who logs in, an id that a user had before, and that a link was none.

Before: an app's login, through `Client.identify` or any Kafka client writing the JSON by hand. After: the streams
worker keeps the links, and whoever reads a user's features reads those of all linked ids as one. Knows nothing of
Kafka; `headwater.wire` reads these from the wire.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headwater.events import EpochMs, Id, now_ms

__all__ = ["Identity"]


class Identity(BaseModel):
    """An id that a user had before, or that it never was one. On the `identities` topic its key is `user_id`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: Id = Field(description="Who it is: the id after the login.")
    was: Id = Field(description="The id before, a guest's say. What it did, and will do, counts as done by user_id.")
    linked: Annotated[bool, Field(strict=True)] = Field(
        default=True, description="false takes the link away again: both are as if there had never been one."
    )
    event_time: EpochMs = Field(
        default_factory=now_ms,
        description="When it became known: integer milliseconds since 1970 UTC, or RFC 3339 text. The newest word of "
        "two ids counts, and an id is linked with the user that it was linked with last.",
    )

    @model_validator(mode="after")
    def _are_two(self) -> Identity:
        if self.user_id == self.was:
            raise ValueError(f"user_id and was are both {self.was[:40]!r}: a link is between two ids")
        return self
