"""What apps ask and get: requests and recommendations with their receipts.

Before: an app's `Client.recommend()` or any producer on the `requests` topic. After: the serving worker, whose answers
go to `recommendations`, which is also the log of exposures.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headwater.events import EpochMs, Event, Finite, Id, at_most, likely_unit, new_id, now_ms

MAX_K = 1000
"""Most items that one request may ask for."""

ALL_TYPES = "*"
AUTO = "auto"
"""Words of a rule `exclude_seen`, beside types of event: every type; those after which users seldom come back."""

EXACT = "exact"
COLD = "cold="
AFTER_NOT_REACHED = "after=not_reached"
FILL = "fill="
SEEN_KEPT = "seen_kept="
REASONS_LEFT_OUT = "reasons=left_out"
"""Notes in a receipt's `policy`."""

PartitionText = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Offset = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]


Ids = Annotated[tuple[Id, ...], Field(fail_fast=True)]
"""As many as fit into a message; the first that is none ends the look at them."""

MAX_RECENT = 100
"""Most events within a request."""

MAX_CONTEXT = 32
"""Most names of a request's context."""


def _notes(policy: Any) -> Any:
    """Logs hold receipts of an older release, whose notes are one text with blanks in between."""
    return tuple(policy.split()) if isinstance(policy, str) else policy


class RecentEvent(Event):
    """An event within a request, whose user_id may be left out: it is then of whom the request is for."""

    user_id: Id | None = None  # type: ignore[assignment]


OwnEvent = Annotated[Event, BeforeValidator(lambda given: given, json_schema_input_type=RecentEvent)]

NOBODY = "guest"
"""The user_id of recent events that have none, in a request for nobody."""


class Request(BaseModel):
    """Ask for the `k` best items for a user, now; or for somebody without an id: by the session, by what was done in
    it, or by the item on the page. On the `requests` topic its key is `user_id`, else `session_id`, else `request_id`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: Id = Field(default_factory=new_id, description="Answered once; also the correlation id.")
    user_id: Id | None = Field(
        default=None,
        description="Whom for. May be left out where session_id, recent_events, context_item or surface tells what "
        "for.",
    )
    session_id: Id | None = Field(
        default=None,
        description="The session that is going on. Without user_id, whom for: a session whose events have its id as "
        "user_id is a user of its own.",
    )
    k: Annotated[int, Field(ge=1, le=MAX_K, strict=True)] | None = Field(
        default=None, description="How many. Absent: as many as the surface says, 10 without one."
    )
    request_time: EpochMs = Field(default_factory=now_ms)
    context_item: Id | None = Field(default=None, description="The item on the page: counts as the newest history.")
    candidates: Ids | None = Field(default=None, description="Rank only these.")
    exclude: Ids = ()
    exclude_seen: Annotated[tuple[str, ...], Field(fail_fast=True)] | None = Field(
        default=None,
        description='Leave out items the user has an event of these types with; ["*"] is all types, [] is none, '
        '["auto"] those after which users seldom come back. '
        "Absent: the surface's word, else the serving worker's setting.",
    )
    exclude_seen_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        description="Only events of so many days count for exclude_seen. Absent: the surface's word, else all that are "
        "known of the user.",
    )
    filters: dict[str, Any] = Field(
        default_factory=dict,
        description="Item field -> value, list of values (any of them), or an object of gt, gte, lt, lte, in, any, "
        "all, none, not, exists and near (all of them); and, or, not -> filters. Fields: categories, published_time, "
        "expires_time, attributes by name (a.b for b within a). docs/requests.md tells of each.",
    )
    recent_events: Annotated[tuple[OwnEvent, ...], Field(fail_fast=True)] = Field(
        default=(),
        max_length=MAX_RECENT,
        description="Events of user_id, or of `was`, that may not have arrived yet; used for this answer only. They "
        "need no user_id. Without user_id and session_id, all that is known of whom the answer is for.",
    )
    was: Id | None = Field(
        default=None,
        description="The id that this user had before, a guest's say: for this answer what is known of it, and its "
        "recent_events, count as the user's own, as they do for good after an Identity.",
    )
    surface: Id | None = Field(
        default=None,
        description="The place on the page, by its name: `headwater surfaces` lists them (docs/surfaces.md).",
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        max_length=16,
        description='Fields of the surface that this request sets otherwise: {"diversity": 0.3}.',
    )
    context: Annotated[dict[str, str | Finite | bool], at_most(MAX_CONTEXT)] = Field(
        default_factory=dict,
        max_length=MAX_CONTEXT,
        description="Of the moment: device, page, campaign. What counts is named by the setting context_fields.",
    )
    explain: bool = False
    why_not: Id | None = Field(default=None, description="Tell of this item where it was lost.")
    deadline_ms: int | None = Field(default=None, ge=1, description="Older requests than this are answered `expired`.")
    after: dict[PartitionText, Offset] | None = Field(
        default=None,
        description="Read your own events: partition -> offset (as `track` returned) that features must include.",
    )
    after_identities: dict[PartitionText, Offset] | None = Field(
        default=None,
        description="The same of `identities`: partition -> offset (as `identify` returned) that must have taken "
        "effect.",
    )

    @property
    def whose(self) -> str | None:
        """The id whose features are asked for: user_id, else session_id; None where the request tells all."""
        return self.session_id if self.user_id is None else self.user_id

    @model_validator(mode="before")
    @classmethod
    def _of_the_asker(cls, given: Any) -> Any:
        """Recent events without a user_id are of whom the request is for."""
        events = given.get("recent_events") if isinstance(given, dict) else None
        if not isinstance(events, (list, tuple)):
            return given
        if len(events) > MAX_RECENT:
            raise ValueError(f"recent_events: there are {len(events):,} (limit {MAX_RECENT})")
        whose = given.get("user_id") or given.get("session_id") or NOBODY
        own = [{**one, "user_id": whose} if isinstance(one, dict) and not one.get("user_id") else one for one in events]
        return {**given, "recent_events": own}

    @model_validator(mode="after")
    def _is_for_somebody(self) -> Request:
        told = (self.whose, self.recent_events or None, self.context_item, self.surface)
        if all(one is None for one in told):
            raise ValueError("whom for? Give user_id, session_id, recent_events, context_item or surface")
        if self.was is not None and self.was == self.whose:
            raise ValueError(f"was is {self.was[:40]!r}, as whom the request is for: leave it out")
        return self

    @model_validator(mode="after")
    def _events_are_of_the_user_and_of_our_days(self) -> Request:
        first = self.recent_events[0].user_id if self.recent_events else NOBODY
        for place, event in enumerate(self.recent_events):
            if event.user_id not in ((self.whose or first), self.was):
                other = f"{event.user_id[:40]!r}"
                name = "session_id" if self.user_id is None and self.session_id else "user_id"
                whose = f"not of {name} {self.whose[:40]!r}" if self.whose else f"the first of {first[:40]!r}"
                raise ValueError(
                    f"recent_events[{place}] is of {other}, {whose}. If that is the user's former id, say was: {other}"
                )
            if likely_unit(event.event_time) == "seconds":
                raise ValueError(
                    f"recent_events[{place}]: event_time {event.event_time} looks like seconds: send milliseconds "
                    "since 1970, or RFC 3339 text"
                )
        return self


class Because(BaseModel):
    """One entry of the history that an item's score comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_id: Id
    type: str
    share: Finite = Field(description="How much of the score would be gone without it.")


class RecommendedItem(BaseModel):
    """One ranked item."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_id: Id
    rank: int = Field(ge=1)
    score: Finite
    reasons: tuple[str, ...] = Field(default=(), description="Filled when the request says explain.")
    propensity: float = Field(
        default=1.0,
        gt=0,
        le=1,
        exclude_if=lambda chance: chance == 1.0,
        description="Chance that this item got this place, given the items above it; of a list it is their product. "
        "Absent: 1, nothing was left to chance.",
    )
    contributions: dict[str, Finite] = Field(
        default_factory=dict,
        exclude_if=lambda parts: not parts,
        description="With explain: what each part of the model adds; their sum is the score.",
    )
    because: tuple[Because, ...] = Field(
        default=(),
        exclude_if=lambda entries: not entries,
        description="With explain: entries of the history, by share.",
    )


class ListRow(BaseModel):
    """One of several rows of an answer: a run of its items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    because: Id | None = Field(default=None, description="The item of the history that the row comes from.")
    first: int = Field(ge=1, description="Rank of the row's first item.")
    count: int = Field(ge=1)


class WhyNot(BaseModel):
    """Where an item that was asked about was lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_id: Id
    stage: str = Field(description="unknown, unavailable, expired, excluded, filtered, capped, rank or listed.")
    text: str
    rank: int | None = None
    score: Finite | None = None
    contributions: dict[str, Finite] = Field(default_factory=dict, exclude_if=lambda parts: not parts)
    behind: dict[str, Finite] = Field(
        default_factory=dict,
        exclude_if=lambda parts: not parts,
        description="By part of the model, what the list's last item has more of.",
    )


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
    history_events: int = Field(default=0, description="The user's own events folded by then, forgotten ones included.")
    people: dict[str, int] = Field(
        default_factory=dict,
        description="Where several ids are one person: each, with the events of it that were folded by then.",
    )
    history_length: int = 0
    request_at: str | None = Field(default=None, description="The request: requests[partition]@offset.")
    user_offsets: dict[str, int] = Field(
        default_factory=dict,
        exclude_if=lambda offsets: not offsets,
        description="users partition -> offset of the last record that the user's attributes are as of; absent where "
        "none had been read.",
    )
    catalogue_offsets: dict[str, int] = Field(
        default_factory=dict, description="items partition -> offset of the last item that was known."
    )
    exclude_seen: tuple[str, ...] | None = Field(
        default=None,
        description="Event types whose items were left out: the request's rule, else the surface's, else the worker's; "
        "none of `again`, where neither request nor surface says.",
    )
    model_version: int | None = Field(default=None, description="Counts up by one with every publication.")
    model_digest: str | None = None
    model_examples: int | None = Field(default=None, description="Training examples that the weights had seen.")
    weight_age_ms: float | None = Field(default=None, description="From the publication of the weights to this answer.")
    counted_age_ms: float | None = Field(
        default=None,
        exclude_if=lambda age: age is None,
        description="From when the newest example that memories, popularity and counts know was written, to this "
        "answer; absent where the trainer does not say.",
    )
    learned_age_ms: float | None = Field(
        default=None,
        exclude_if=lambda age: age is None,
        description="The same of the newest example that was learned in full (encoder, gate, ranker): more than "
        "counted_age_ms while more comes than can be learned.",
    )
    policy: Annotated[tuple[str, ...], BeforeValidator(_notes)] = Field(
        default=(EXACT,),
        description="Notes on how the list came about. exact: the whole catalogue was ranked. cold=N: N items are not "
        "known to the model; last, unless the surface says otherwise, those like the user's newest items first, then "
        "the newest. pins_missing, pins_taken, shares_short, unknown_fields, unknown_objectives and young_objectives: "
        "what of the surface could not be done (docs/surfaces.md). "
        "not_explored=no_share: explore.by is thompson, and the ranker says nothing yet; no_posterior: the model is of "
        "a release that keeps none; no_ranker, no_candidates: nothing that it speaks of is in the list. "
        "fill=popular:3: three items are of this kind, a fallback of the surface. "
        "seen_kept=again: exclude_seen was in force for the other kinds of the list alone. "
        "after=not_reached: the request's `after` was waited for in vain. reasons=left_out: with them the answer was "
        "too large for Kafka.",
    )
    fallback: str | None = Field(
        default=None,
        description="no_events (nobody has done anything yet: the newest of the catalogue), no_model, no_features "
        "(they could not be read), no_history, unknown_history (none of its items is known to the model yet), "
        "no_consent (what is known of the user may not be used for lists), or null for a personal answer.",
    )
    popular_time: EpochMs | None = Field(
        default=None, description="When popularity was read; null where it added nothing."
    )
    popular_offsets: dict[str, int] = Field(
        default_factory=dict, description="events partition -> offset of the last event counted in it."
    )
    surface: str | None = Field(default=None, exclude_if=lambda name: name is None, description="By whose policy.")
    surface_version: str | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="Of the policy, its variant and the request's overrides included.",
    )
    experiment: str | None = Field(
        default=None, exclude_if=lambda name: name is None, description="Of the surface, that this answer is part of."
    )
    variant: str | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="Which of the experiment's variants answered; `control` is the surface as it is.",
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
    user_id: Id | None = Field(
        default=None,
        description="Whom for: the request's user_id, else its session_id; null for an answer from the request alone.",
    )
    items: tuple[RecommendedItem, ...] = ()
    rows: tuple[ListRow, ...] = Field(
        default=(),
        exclude_if=lambda rows: not rows,
        description="Where the items are several rows, these with a title each.",
    )
    why_not: WhyNot | None = Field(default=None, exclude_if=lambda said: said is None)
    answered_time: EpochMs = Field(default_factory=now_ms)
    receipt: Receipt = Field(default_factory=Receipt)
    error: Refusal | None = None
