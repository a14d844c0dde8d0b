"""What apps ask and get: requests and recommendations with their receipts.

Before: an app's `Client.recommend()` or any producer on the `requests` topic. After: the serving worker, whose answers
go to `recommendations`, which is also the log of exposures.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headwater.events import EpochMs, Event, Finite, Id, likely_unit, new_id, now_ms

MAX_K = 1000
"""Most items that one request may ask for."""

ALL_TYPES = "*"
AUTO = "auto"
"""Words of a rule `exclude_seen`, beside types of event: every type; those after which users seldom come back."""

EXACT = "exact"
COLD = "cold="
AFTER_NOT_REACHED = "after=not_reached"
REASONS_LEFT_OUT = "reasons=left_out"
"""Notes in a receipt's `policy`."""

PartitionText = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Offset = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]


def _notes(policy: Any) -> Any:
    """Logs hold receipts of an older release, whose notes are one text with blanks in between."""
    return tuple(policy.split()) if isinstance(policy, str) else policy


class Request(BaseModel):
    """Ask for the `k` best items for a user, now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: Id = Field(default_factory=new_id, description="Answered once; also the correlation id.")
    user_id: Id
    k: int = Field(default=10, ge=1, le=MAX_K, strict=True)
    request_time: EpochMs = Field(default_factory=now_ms)
    context_item: Id | None = Field(default=None, description="The item on the page: counts as the newest history.")
    candidates: tuple[Id, ...] | None = Field(default=None, description="Rank only these.")
    exclude: tuple[Id, ...] = ()
    exclude_seen: tuple[str, ...] | None = Field(
        default=None,
        description='Leave out items the user has an event of these types with; ["*"] is all types, [] is none, '
        '["auto"] those after which users seldom come back. '
        "Absent: the serving worker's setting.",
    )
    exclude_seen_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        description="Only events of so many days count for exclude_seen. Absent: all that are known of the user.",
    )
    filters: dict[str, Any] = Field(
        default_factory=dict,
        description="Item field -> value, list of values (any of them), or an object of gt, gte, lt, lte, in and not "
        "(all of them). Fields: categories, published_time, attributes by name (a.b for b within a).",
    )
    recent_events: tuple[Event, ...] = Field(
        default=(),
        max_length=100,
        description="Events of user_id, or of `was`, that may not have arrived yet; used for this answer only.",
    )
    was: Id | None = Field(
        default=None,
        description="The id that this user had before, a guest's say: its recent_events count as the user's own.",
    )
    explain: bool = False
    deadline_ms: int | None = Field(default=None, ge=1, description="Older requests than this are answered `expired`.")
    after: dict[PartitionText, Offset] | None = Field(
        default=None,
        description="Read your own events: partition -> offset (as `track` returned) that features must include.",
    )

    @model_validator(mode="after")
    def _events_are_of_the_user_and_of_our_days(self) -> Request:
        for place, event in enumerate(self.recent_events):
            if event.user_id not in (self.user_id, self.was):
                other = f"{event.user_id[:40]!r}"
                raise ValueError(
                    f"recent_events[{place}] is of {other}, not of user_id {self.user_id[:40]!r}. If that is the "
                    f"user's former id, say was: {other}"
                )
            if likely_unit(event.event_time) == "seconds":
                raise ValueError(
                    f"recent_events[{place}]: event_time {event.event_time} looks like seconds: send milliseconds "
                    "since 1970, or RFC 3339 text"
                )
        return self


class RecommendedItem(BaseModel):
    """One ranked item."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_id: Id
    rank: int = Field(ge=1)
    score: Finite
    reasons: tuple[str, ...] = Field(default=(), description="Filled when the request says explain.")

    @model_validator(mode="before")
    @classmethod
    def _of_an_older_release(cls, given: Any) -> Any:
        """Logs hold items with a `propensity`, which was always 1."""
        return {name: one for name, one in given.items() if name != "propensity"} if isinstance(given, dict) else given


class Receipt(BaseModel):
    """How fresh an answer is, and what is needed to rebuild it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature_offsets: dict[str, int] = Field(
        default_factory=dict, description="events partition -> offset of the last event folded into what was read."
    )
    feature_age_ms: float | None = Field(
        default=None, description="From the user's newest folded event being folded to this answer."
    )
    history_at: str | None = Field(
        default=None, description="The user's newest folded event, events[partition]@offset; null for none."
    )
    history_events: int = Field(default=0, description="Events of the user folded by then, forgotten ones included.")
    history_length: int = 0
    request_at: str | None = Field(default=None, description="The request: requests[partition]@offset.")
    catalogue_offsets: dict[str, int] = Field(
        default_factory=dict, description="items partition -> offset of the last item that was known."
    )
    exclude_seen: tuple[str, ...] | None = Field(
        default=None, description="Event types whose items were left out: the request's rule, else the worker's."
    )
    model_version: int | None = Field(default=None, description="Counts up by one with every publication.")
    model_digest: str | None = None
    model_examples: int | None = Field(default=None, description="Training examples that the weights had seen.")
    weight_age_ms: float | None = Field(default=None, description="From the publication of the weights to this answer.")
    policy: Annotated[tuple[str, ...], BeforeValidator(_notes)] = Field(
        default=(EXACT,),
        description="Notes on how the list came about. exact: the whole catalogue was ranked. cold=N: the last N items "
        "are not known to the model; those like the user's newest items come first, then the newest. "
        "after=not_reached: the request's `after` was waited for in vain. reasons=left_out: with them the answer was "
        "too large for Kafka.",
    )
    fallback: str | None = Field(
        default=None,
        description="no_events (nobody has done anything yet: the newest of the catalogue), no_model, no_features "
        "(they could not be read), no_history, unknown_history (none of its items is known to the model yet), or null "
        "for a personal answer.",
    )
    popular_time: EpochMs | None = Field(
        default=None, description="When popularity was read; null where it added nothing."
    )
    popular_offsets: dict[str, int] = Field(
        default_factory=dict, description="events partition -> offset of the last event counted in it."
    )
    timings_ms: dict[str, float] = Field(default_factory=dict, description="queue, features, score, rules, total.")


class Refusal(BaseModel):
    """Why a request could not be answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    message: str


class Recommendation(BaseModel):
    """The answer to one request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: Id
    user_id: Id
    items: tuple[RecommendedItem, ...] = ()
    answered_time: EpochMs = Field(default_factory=now_ms)
    receipt: Receipt = Field(default_factory=Receipt)
    error: Refusal | None = None
