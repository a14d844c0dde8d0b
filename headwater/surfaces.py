"""Surfaces: the named policy of each place on a page, of settings `[surfaces.NAME]` or the topic `surfaces`.

Before: an operator writes one. After: requests name one, serving answers by it, receipts name its version. What a
surface says of items is the same language as a request's `filters`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from datetime import date, datetime, time
from functools import cached_property
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from headwater.errors import RequestRefused, SettingsError
from headwater.events import EVENT_TYPE_PATTERN, EpochMs, Id, not_seconds, to_epoch_ms
from headwater.experiments import CONTROL, Experiment
from headwater.filters import MAX_DEPTH, check_times, read_filters
from headwater.spelling import problem_text

__all__ = ["DEFAULT_SURFACE", "Boost", "Exploration", "Pin", "Share", "Surface", "SurfaceKind"]

MAX_SURFACE_K = 1000
VERSION_BYTES = 6

TOLD = 3
"""Most problems of a request's overrides that a refusal names."""

SurfaceKind = Literal["for-you", "similar", "popular", "trending", "new", "again", "because-you"]


def _read(filters: dict[str, Any]) -> dict[str, Any]:
    """A filter that says nothing is refused when the surface is written, and not with each request."""
    try:
        filters = _as_json(filters)
        check_times(read_filters(filters))
    except RequestRefused as refusal:
        raise ValueError(str(refusal)) from refusal
    return filters


def _as_json(value: Any, depth: int = 0) -> Any:
    """TOML has times; in JSON they are text. What is nested deeper than any filter may be stays as it is."""
    if isinstance(value, dict) and depth <= 2 * MAX_DEPTH:
        return {name: _as_json(one, depth + 1) for name, one in value.items()}
    if isinstance(value, (list, tuple)) and depth <= 2 * MAX_DEPTH:
        return [_as_json(one, depth + 1) for one in value]
    return _moment(value) if isinstance(value, date) else value


def _moment(value: date) -> str:
    """RFC 3339 text. One without an offset would be refused with each request that names the surface."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        text = "names no instant: write 2026-06-01T00:00:00Z, or text in quotes to compare text"
        raise RequestRefused("bad_filter", f"{value} {text}")
    return value.isoformat()


Filters = Annotated[dict[str, Any], AfterValidator(_read)]
Unit = Annotated[float, Field(ge=0, le=1, strict=True)]  # strict: true is no 1, which would leave all to chance
EventType = Annotated[str, Field(pattern=EVENT_TYPE_PATTERN)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _instant(given: Any) -> Any:
    """Epoch ms of a time, which has to name an instant: a date, an hour, or a time without an offset names none."""
    if isinstance(given, (str, datetime)):
        with contextlib.suppress(ValueError):
            return to_epoch_ms(given)
    if isinstance(given, (str, date, time)):
        raise ValueError(f"{given!s:.40} names no instant: write 2026-06-01T00:00:00Z, or with another offset")
    return given


Moment = Annotated[EpochMs, BeforeValidator(_instant), AfterValidator(not_seconds)]


class _Campaign(_Part):
    """A rule that holds from a moment to another, or always."""

    since: Moment | None = Field(default=None, description="Holds from this moment on; from ever unless set.")
    until: Moment | None = Field(
        default=None, description="Holds up to this moment, which is out; for ever unless set."
    )

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> _Campaign:
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ValueError(f"until ({self.until}) is not after since ({self.since}): it would never hold")
        return self

    def holds(self, now_ms: int) -> bool:
        """Whether the rule holds at an instant, epoch ms."""
        return (self.since is None or now_ms >= self.since) and (self.until is None or now_ms < self.until)


class Boost(_Campaign):
    """Raise or bury what meets a condition."""

    filters: Filters = Field(description="Which items.")
    times: float = Field(
        ge=0, le=1000, strict=True, description="Their chance of being next counts so many times: 2 raises, .5 buries."
    )


class Pin(_Campaign):
    """One item at one place."""

    item_id: Id
    place: int = Field(ge=1, le=MAX_SURFACE_K, strict=True, description="From 1.")


class Share(_Campaign):
    """At least so much of a list meets a condition, as far as there are such items."""

    filters: Filters = Field(description="Which items.")
    least: Unit = Field(description="Share of the list's k places, rounded up.")


class Exploration(_Part):
    """How far lists are drawn by chance."""

    by: Literal["plackett-luce", "epsilon", "thompson"] = Field(
        default="plackett-luce",
        description="plackett-luce draws each place from softmax(score / temperature); epsilon takes the best but in a "
        "share of draws any candidate; thompson lists by what the ranker could mean, as far as it does not know.",
    )
    temperature: float = Field(
        default=0.0,
        ge=0,
        le=100,
        strict=True,
        description="Of plackett-luce; of thompson times the spread of what the ranker could mean, 1 unless set. 0 "
        "draws nothing.",
    )
    epsilon: Unit = Field(default=0.0, description="Share of places that are drawn evenly from the candidates.")
    new_items: Unit = Field(
        default=0.0, description="Share of places that are drawn from items with few exposures or events."
    )

    @model_validator(mode="before")
    @classmethod
    def _by_the_book(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("by") == "thompson":
            return {"temperature": 1.0} | given
        return given


class Surface(_Part):
    """One place on a page: what its lists are of, and by which rules."""

    kind: SurfaceKind = Field(
        default="for-you",
        description="for-you; similar (to context_item); popular; trending (grows fastest just now); new (newest "
        "first, as the person likes); again (what the person comes back to); because-you (a row for each of the "
        "newest items of the history).",
    )
    k: int = Field(
        default=10, ge=1, le=MAX_SURFACE_K, strict=True, description="Items, where the request names no number."
    )
    rows: int = Field(default=3, ge=1, le=20, strict=True, description="Rows of because-you, of k items each.")
    filters: Filters = Field(
        default_factory=dict, description="Only items that meet this, and the request's own filters."
    )
    exclude_seen: tuple[str, ...] | None = Field(default=None, description="As in a request, which may say otherwise.")
    exclude_seen_days: Annotated[float, Field(gt=0, le=36_500, strict=True)] | None = Field(
        default=None, description="As in a request."
    )
    objectives: dict[EventType, Annotated[float, Field(ge=-10, le=10, strict=True)]] = Field(
        default_factory=dict,
        max_length=32,
        description="Event type -> how much a list is to be of what such an event follows on, beside what is likely "
        'next of whatever type: {"purchase": 1}. Below 0 it is to be of other things.',
    )
    boosts: tuple[Boost, ...] = Field(default=(), max_length=64, description="Raise or bury items.")
    pins: tuple[Pin, ...] = Field(default=(), max_length=64, description="Items at places of their own.")
    max_per: dict[str, Annotated[int, Field(ge=1, strict=True)]] = Field(
        default_factory=dict, max_length=8, description='Field -> most items of one value in a list: {"seller": 2}.'
    )
    shares: tuple[Share, ...] = Field(default=(), max_length=16, description="What a list holds a share of at least.")
    diversity: Unit = Field(
        default=0.0, description="0 ranks by score alone, 1 by difference from what is above alone."
    )
    explore: Exploration = Field(default_factory=Exploration, description="How far lists are drawn by chance.")
    fallbacks: tuple[SurfaceKind, ...] = Field(
        default=("popular",),
        description="Kinds that fill a list that comes out short, in this order; [] leaves it short.",
    )
    experiment: Experiment | None = Field(default=None, description="Answers some people otherwise.")

    @model_validator(mode="after")
    def _draws_what_is_ranked(self) -> Surface:
        if self.explore.by == "thompson" and self.explore.temperature and self.kind != "for-you":
            raise ValueError(
                f"explore.by = 'thompson' draws what the ranker says, which orders lists of kind 'for-you' alone, and "
                f"kind is {self.kind!r}: explore by 'plackett-luce' or 'epsilon' there"
            )
        return self

    @model_validator(mode="after")
    def _variants_are_surfaces(self) -> Surface:
        for name, one in self.experiment.variants.items() if self.experiment else ():
            if not one.overrides or "experiment" in one.overrides:
                raise ValueError(
                    f"experiment.variants.{name}.overrides: say what is otherwise, and no other experiment"
                )
            try:
                self.changed({"experiment": None} | one.overrides)
            except SettingsError as error:
                raise ValueError(f"experiment.variants.{name}.{error}") from error
        return self

    @cached_property
    def variants(self) -> Mapping[str, Surface]:
        """What the surface is to whom: by the names of the experiment's variants, `control` among them."""
        plain = self.changed({"experiment": None})
        others = self.experiment.model_dump(mode="json")["variants"] if self.experiment else {}  # as the topic has them
        return {CONTROL: plain} | {name: plain.changed(one["overrides"]) for name, one in others.items()}

    @cached_property
    def version(self) -> str:
        """12 hexadecimal digits of what the surface says: equal policies have equal versions everywhere. What it leaves
        as it is by default is not said, so that a field of a later release changes no version.
        """
        text = orjson.dumps(self.model_dump(mode="json", exclude_defaults=True), option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(text, digest_size=VERSION_BYTES).hexdigest()

    def changed(self, overrides: Mapping[str, Any]) -> Surface:
        """This surface with some fields otherwise.

        Raises
            SettingsError: there is no such field, or it takes no such value.
        """
        if not overrides:
            return self
        try:
            return type(self).model_validate(self.model_dump() | dict(overrides))
        except ValidationError as error:
            problems = [
                ": ".join(filter(None, (".".join(map(str, one["loc"])), problem_text(one, type(self)))))
                for one in error.errors()[:TOLD]
            ]
            raise SettingsError(f"overrides: {'; '.join(problems)} (docs/surfaces.md)") from error


DEFAULT_SURFACE = Surface()
"""What a request without a surface is answered by."""
