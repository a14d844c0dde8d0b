"""Which column of a file means what: by what a person said, else by names in any case and style, else by its shape.

Before: `reading` gives names and a sample. After: `files` reads the columns so, `headwater look` shows them. Known are
the names of gorse, metarank, Amazon Personalize, RecBole (`user_id:token`), Segment, Google Analytics, Snowplow, and of
the public sets: Retailrocket, REES46, Tianchi, H&M, Yelp, Amazon's reviews, MovieLens, OTTO, KuaiRand, Trivago ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from headwater.errors import SourceError
from headwater.signals import DEFAULTS, Meaning
from replay.sources.ids import is_missing
from replay.sources.kinds import Kinds
from replay.sources.lists import SHOWN_TYPE
from replay.sources.times import number_of

__all__ = [
    "CATEGORIES",
    "FIELDS",
    "ITEMS",
    "TEXTS",
    "TITLES",
    "Columns",
    "Roles",
    "columns_named",
    "decimal_comma",
    "guesses_of",
    "is_known_name",
    "is_listed",
    "layout_of",
    "plain",
    "roles_of",
    "untyped",
]


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


USERS = _names(
    "userid user uid customerid customer visitorid visitor userpseudoid reviewerid memberid clientid buyerid shopperid "
    "viewerid listenerid readerid playerid profileid accountid personid consumerid patronid msno householdkey "
    "householdid fullvisitorid distinctid domainuserid anonymousid deviceid cookieid"
)
SESSIONS = _names("sessionid session ssessionid usersession visitid displayid")
REQUESTS = _names("recommendationid requestid impressionid")
SHOWN = _names("impression impressions shown shownitems displayeditems items")
ITEMS = _names(
    "itemid item productid product movieid filmid articleid clickarticleid videoid trackid songid artistid albumid "
    "bookid isbn parentasin asin businessid newsid contentid documentid postid gameid appid animeid recipeid courseid "
    "jobid hotelid poiid venueid showid podcastid listingid offerid merchandiseid goodsid contentassetid aid sku skuid "
    "reference iid objectid entityid"
)
TIMES = _names(
    "eventtime eventtimestamp timestamp time ts timems timestampms datetime eventdate date day dt tdat unixreviewtime "
    "clicktimestamp unixtime epoch derivedtstamp utctime originaltimestamp eventday"
)
LATER_TIMES = _names(
    "createdat created createdtime createtime reviewtime occurredat dateadded collectortstamp sentat receivedat"
)
TYPES = _names(
    "type eventtype event eventname action actiontype behaviortype behaviourtype behavior behaviour feedbacktype "
    "interactiontype interaction activity verb"
)
RATINGS = _names("rating stars overall bookrating score rate ratings")
VALUES = ("value", *RATINGS, *_names("eventvalue weight plays playcount watchratio price amount revenue"))
EVENT_IDS = _names("eventid eventuuid messageid insertid")
TITLES = _names("title name itemname productname movietitle prodname")
CATEGORIES = _names("categories category genres genre")
TEXTS = _names("text description overview")
CATALOGUE = (*TITLES, *CATEGORIES, *TEXTS, *_names("available publishedtime attributes creationtimestamp"))
NOT_ITEMS = _names(
    "category cat brand order request event session device store shop impression campaign group class region"
)

KNOWN = {*USERS, *SESSIONS, *ITEMS, *TIMES, *LATER_TIMES, *TYPES, *VALUES, *EVENT_IDS, *CATALOGUE, *REQUESTS}
BY_FIELD = {"user": USERS, "item": ITEMS, "time": TIMES, "type": TYPES, "value": VALUES}
FIELDS = (*BY_FIELD, "event_id", "session", "request", "shown")
"""What a column can be named for."""
_TYPED = re.compile(r":(?:token|float|token_seq|float_seq)$")
_CLICKS = re.compile(r"\S+-[01](?: \S+-[01])*")
_FLAG = re.compile(r"(?:is|has)?_?(\w+)", re.IGNORECASE)
ANSWERS = {"0", "1", "0.0", "1.0", "true", "false"}
FLAGS = {name for name, signal in DEFAULTS.items() if signal.means in (Meaning.POSITIVE, Meaning.NEGATIVE)} - {"rating"}
"""Types that a column of 0 and 1 can be named after: is_click, is_like, is_hate, purchase, ..."""
_SOLD = re.compile(r"price|quantity|order|transaction|basket|sales", re.IGNORECASE)
_CLOCK = re.compile(r"\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?")
_TIMELIKE = re.compile(r"time|date|stamp", re.IGNORECASE)

Sample = Mapping[str, Sequence[Any]]
"""The values of some rows, by column."""


@dataclass(frozen=True)
class Columns:
    """Which column holds what, by name, or by place from 1. None looks for the usual names.

    Fields
        user: a column; of several, with commas between, the first that is not empty in a row.
        time: a column; or two, `day+clock`.
        type: a column, or a fixed word: "=view".
        types: what words of that column mean; "" leaves such rows out.
        timed: False takes the order of the rows for their time.
        event_id, session, request: columns of those.
        shown: of the items that a user saw, as a list or `a|b|c`.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    type: str | None = None
    value: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    timed: bool = True
    event_id: str | None = None
    session: str | None = None
    request: str | None = None
    shown: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """The columns that a person named, by what they hold."""
        return {what: name for what in FIELDS if (name := getattr(self, what)) is not None}


def columns_named(given: Iterable[str]) -> dict[str, str]:
    """From `item=properties.sku,session=visit` which column is which field. Raises SourceError.

    A comma within a column's name, as of several users, goes on the one before it: `user=a,b`.
    """
    found: dict[str, str] = {}
    for text in given:
        last = ""
        for pair in text.split(","):
            what, equals, name = (part.strip() for part in pair.partition("="))
            if equals and what in FIELDS and name:
                found[what], last = name, what
            elif last and not equals and what:
                found[last] += f",{what}"
            else:
                raise SourceError(
                    f"--map {pair.strip()!r}: write FIELD=COLUMN, where FIELD is one of {', '.join(FIELDS)}"
                )
    return found


@dataclass(frozen=True)
class Roles:
    """What each column was taken for; None is not there.

    Fields
        times: of which the values decide: the first is the best by its name. `date+clock` are two of one moment.
        item: "" where rows are lists that were shown, and of no one item.
        session, request, shown: as of `Columns`.
        clicked: whether the lists say of each item whether it was clicked, as N129416-1.
        flags: columns of 0 and 1, and the type of event that 1 means; a row is an impression as well.
        other_users: columns of the user where that one is empty.
        fixed_type: the type of every event, where no column tells.
        notes: what a person should know of the choice.
    """

    user: str
    item: str
    times: tuple[str, ...]
    type: str | None
    value: str | None
    event_id: str | None
    session: str | None = None
    request: str | None = None
    shown: str | None = None
    other_users: tuple[str, ...] = ()
    fixed_type: str = ""
    notes: tuple[str, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()
    clicked: bool = False


@lru_cache(10_000)
def plain(name: str) -> str:
    """A name without case, style and RecBole's type: `USER_ID`, `userId` and `user_id:token` are one."""
    return re.sub(r"[\W_]+", "", _TYPED.sub("", name.strip())).lower()


def untyped(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without RecBole's types: `class:token_seq` is a list `class`, `year:float` a number `year`.

    >>> untyped({"item_id:token": "7", "class:token_seq": "Drama Sci-Fi", "year:float": "1995.0", "title": "Heat"})
    {'item_id': '7', 'class': ['Drama', 'Sci-Fi'], 'year': 1995.0, 'title': 'Heat'}
    """
    made: dict[str, Any] = {}
    for name, value in row.items():
        typed = _TYPED.search(name)
        if typed is not None and isinstance(value, str):
            kind = typed[0][1:]
            number = number_of(value) if kind == "float" else None
            value = value.split() if kind == "token_seq" else value if number is None else number
        made[_TYPED.sub("", name)] = value
    return made


def is_known_name(name: str) -> bool:
    """Whether a header may well hold a name."""
    return plain(name) in KNOWN or bool(_TYPED.search(name.strip()))


def roles_of(where: str, present: Sequence[str], sample: Sample, given: Columns) -> Roles:
    """What each column is.

    Parameters
        where: the file, for messages.
        present: the columns.
        sample: values of them; columns without any are taken for none.
        given: what a person said, which comes first.

    Raises
        SourceError: a column that is needed is not there; it names those that are, and what to do.
    """
    chooser = _Chooser(where, list(present), sample, given)
    user = chooser.one("user", USERS) or chooser.session()
    item = chooser.one("item", ITEMS) or chooser.other_id()
    shown = chooser.shown()
    if user is None or (item is None and shown is None):
        raise chooser.lacks("user" if user is None else "item")
    times = chooser.times() if given.timed else ()
    if given.timed and not times:
        raise chooser.lacks("time")
    kind = chooser.type()
    value = chooser.one("value", VALUES, number=True)
    fixed = (given.type or "")[1:] if (given.type or "").startswith("=") else ""
    rated = value is not None and plain(value).rpartition(".")[2] in RATINGS and given.value is None
    flags = () if kind is not None or fixed or rated or item is None else chooser.flags()
    clicked = shown is not None and chooser.is_clicked(shown)
    if item is None:
        fixed = fixed or ("" if kind else SHOWN_TYPE)
        clicks = ", and a click for each item that ends with -1" if clicked else ""
        chooser.notes.append(f"a row is a list that was shown, of column {shown}{clicks}")
    elif flags:
        told = ", ".join(f"{name} ({what})" for name, what in flags)
        chooser.notes.append(f"a row is an impression, and an event for each that is 1 of: {told}")
    elif kind is None and not fixed:
        if not rated:
            raise chooser.lacks("type")
        fixed = "rating"
        chooser.notes.append(f"every event is a rating, of column {value} (--type =WORD says another)")
    event_id = chooser.event_id()
    session, request = chooser.session_id(), chooser.one("request", REQUESTS)
    for name in (user, item, *times, kind, value):
        if name is not None and f"{name} (2)" in present:
            chooser.notes.append(f"column {name} is there twice: the first is taken")
    chooser.tell_anonymous(user)
    return Roles(
        user, item or "", times, kind, value, event_id, session, request, shown, chooser.other_users, fixed,
        tuple(chooser.notes), flags, clicked,
    )  # fmt: skip


class _Chooser:
    """Columns that are still to be had."""

    def __init__(self, where: str, present: list[str], sample: Sample, given: Columns) -> None:
        self.where, self.present, self.sample, self.given = where, present, sample, given
        self.notes: list[str] = []
        self.other_users: tuple[str, ...] = ()
        if given.user is not None and given.user not in present and "," in given.user:
            first, *others = (name.strip() for name in given.user.split(","))
            self.given = replace(given, user=first)
            self.other_users = tuple(self._given("user", name) for name in others)
        self._taken = set(self.other_users)
        for what, name in self.given.named.items():
            if not (what == "type" and name.startswith("=")):
                found = self._given(what, name)
                self._taken |= {found} if found in self.present else set(found.split("+"))

    def _given(self, what: str, name: str) -> str:
        if name in self.present:
            return name
        alike = [one for one in self.present if plain(one) == plain(name)]
        if len(alike) == 1:
            return alike[0]
        if what == "time" and "+" in name:
            return "+".join(self._given(what, part.strip()) for part in name.split("+", 1))
        if name.isdecimal() and 1 <= int(name) <= len(self.present):
            return self.present[int(name) - 1]
        raise self.lacks(what)

    def one(self, what: str, usual: Sequence[str], *, number: bool = False) -> str | None:
        """The column of a field: the one that was named, else the first usual name with values."""
        name = getattr(self.given, what)
        if name is not None:
            return self._given(what, name)
        return self._first(usual, number=number)

    def _first(self, usual: Sequence[str], *, number: bool = False) -> str | None:
        named = self._named(usual)
        fits = [name for name in named if not number or self._is_number(name)]
        if named and not fits:
            self.notes.append(f"column {named[0]} holds no numbers: no values")
        found = next((name for name in fits if self._filled(name) >= 0.5), None)
        found = found or max(fits, key=self._filled, default=None)
        if found is not None:
            self._taken.add(found)
        return found

    def _named(self, usual: Sequence[str]) -> list[str]:
        """Columns by usual names, in the order of those: whole names before the last parts of names with dots."""
        free = [name for name in self.present if name not in self._taken]
        whole: dict[str, str] = {}
        last: dict[str, str] = {}
        for name in free:
            whole.setdefault(plain(name), name)
            if "." in name:
                last.setdefault(plain(name.rpartition(".")[2]), name)
        found = [whole[word] for word in usual if word in whole]
        return found + [last[word] for word in usual if word in last and last[word] not in found]

    def _filled(self, name: str) -> float:
        values = self.sample.get(name, ())
        return sum(not is_missing(value) for value in values) / len(values) if values else 0.0

    def _is_number(self, name: str) -> bool:
        values = self._values(name)
        return not values or sum(_is_numeric(value) for value in values) >= 0.9 * len(values)

    def session(self) -> str | None:
        found = self._first(SESSIONS)
        if found is not None:
            self.notes.append(f"no column of a user: each {found} is one")
        return found

    def session_id(self) -> str | None:
        """The column of a session beside one of the user, whose values can be ids."""
        if self.given.session is not None:
            return self._given("session", self.given.session)
        named = [*self._named(SESSIONS), *(name for name in self.other_users if plain(name) in SESSIONS)]
        fits = [name for name in named if not any(map(_is_inner, self._values(name)))]
        return min(fits, key=self._empty, default=None)

    def shown(self) -> str | None:
        """The column of lists that were shown: a number of impressions is none.

        One without a value so far may have some later.
        """
        if self.given.shown is not None:
            return self._given("shown", self.given.shown)
        named = [name for name in self._named(SHOWN) if self._lists(name) or self._empty(name)]
        return min(named, key=self._empty, default=None)

    def is_clicked(self, name: str) -> bool:
        """Whether a column has lists as MIND writes them."""
        values = self._values(name)
        return bool(values) and all(isinstance(one, str) and _CLICKS.fullmatch(one.strip()) for one in values)

    def _lists(self, name: str) -> bool:
        return any(map(is_listed, self._values(name))) or self.is_clicked(name)

    def flags(self) -> tuple[tuple[str, str], ...]:
        """Columns that say of each row whether something happened, 0 or 1, and the type that each means."""
        kinds = Kinds(self.given.types, foreign=True)
        found = []
        for name in self.present:
            flag = _FLAG.fullmatch(name.strip())
            values = {str(value).lower() for value in self._values(name)}
            if name in self._taken or flag is None or not values or values - ANSWERS:
                continue
            kind = kinds.read(name if name in self.given.types else flag[1])
            if name in self.given.types or kind in FLAGS:
                found += [(name, kind)] if kind else []
        return tuple(found)

    def _empty(self, name: str) -> bool:
        return not self._values(name)

    def _values(self, name: str) -> list[Any]:
        return [value for value in self.sample.get(name, ()) if not is_missing(value)]

    def tell_anonymous(self, user: str) -> None:
        """What could stand for the user in rows that have none."""
        if self._filled(user) < 0.99 and self.sample.get(user) and not self.other_users:
            other = next((name for name in self._named((*USERS, *SESSIONS)) if self._filled(name) > 0.5), None)
            if other is not None:
                empty = 1 - self._filled(user)
                self.notes.append(
                    f"{user} is empty in {empty:.0%} of the first rows: --user {user},{other} takes {other} there"
                )

    def other_id(self) -> str | None:
        """The only other column that is called an id: film_id, recipe_id."""
        free = [name for name in self.present if name not in self._taken and plain(name).endswith("id")]
        free = [name for name in free if plain(name) not in {"id", *USERS, *SESSIONS, *REQUESTS, *EVENT_IDS}]
        free = [name for name in free if not plain(name).startswith(NOT_ITEMS)]
        if len(free) != 1:
            return None
        self._taken.add(free[0])
        self.notes.append(f"item is column {free[0]}, the only other id")
        return free[0]

    def times(self) -> tuple[str, ...]:
        if self.given.time is not None:
            return (self._given("time", self.given.time),)
        named = [*self._named(TIMES), *self._named(LATER_TIMES)]
        free = [name for name in self.present if name not in self._taken and _TIMELIKE.search(name)]
        clocks = [name for name in dict.fromkeys([*named, *free]) if self._is_clock(name)]
        found = [name for name in named or free if name not in clocks]
        self._taken.update(found)
        return (*(f"{day}+{clock}" for day in found for clock in clocks), *found)

    def _is_clock(self, name: str) -> bool:
        """Whether a column is 10:15, whose day stands in another."""
        values = self._values(name)
        return bool(values) and all(isinstance(one, str) and _CLOCK.fullmatch(one.strip()) for one in values)

    def type(self) -> str | None:
        name = self.given.type
        if name is not None:
            return None if name.startswith("=") else self._given("type", name)
        words = {plain(one) for one in self.present}
        if words & {"messageid", "anonymousid", "originaltimestamp"}:  # Segment: its type is `track`, whatever happened
            return self._first(("event", *TYPES))
        found = self._named(TYPES)
        textual = [one for one in found if self._filled(one) >= 0.5 and not self._is_number(one)]
        chosen = next(iter([*textual, *(one for one in found if self._filled(one) > 0), *found]), None)
        if chosen is not None:
            self._taken.add(chosen)
        return chosen

    def event_id(self) -> str | None:
        """A column of ids, each of one row, which may be there twice: `event_id` is also what some call a type."""
        if self.given.event_id is not None:
            return self._given("event_id", self.given.event_id)
        found = self._first(EVENT_IDS)
        if found is None:
            return None
        values = {str(value) for value in self.sample.get(found, ()) if not is_missing(value)}
        rows = {str(row) for row in zip(*self.sample.values(), strict=False)}
        if len(values) < 0.9 * len(rows) * self._filled(found):
            self.notes.append(f"column {found} repeats and is no id of an event")
            return None
        return found

    def lacks(self, what: str) -> SourceError:
        given = getattr(self.given, what)
        usual = {"user": "user_id", "item": "item_id", "time": "timestamp"}.get(what, what)
        lacking = f"column {given}" if given is not None else f"column {usual} nor another usual name of the {what}"
        sold = any(_SOLD.search(name) for name in self.present)
        remedy = {
            "user": "name one with --user (a session or an order will do)",
            "type": f"name one with --type, or say what all events are: --type ={'purchase' if sold else 'view'}",
            "time": "name one with --time; a file without times is read in its own order with --no-time",
        }.get(what, f"name one with --{what}" if what in BY_FIELD else f"name one with --map {what}=COLUMN")
        has = ", ".join(self.present[:40]) + (", ..." if len(self.present) > 40 else "")
        if "\ufffd" in has:  # what stands for bytes of another encoding
            remedy = f"its names are not in the encoding it is read in: name theirs with --encoding; or {remedy}"
        return SourceError(f"{self.where} has no {lacking}. It has {has}: {remedy}")


def is_listed(value: Any) -> bool:
    """Whether a value is a list of items: one of JSON or parquet, as text, or `a|b|c`."""
    return isinstance(value, list) or (isinstance(value, str) and ("|" in value or value.lstrip().startswith("[")))


def _is_inner(value: Any) -> bool:
    return isinstance(value, list | dict | bool)


def _is_numeric(value: Any) -> bool:
    return isinstance(value, bool) or number_of(value) is not None or decimal_comma(value) is not None


def decimal_comma(value: Any) -> float | None:
    """A number as much of Europe writes it, 4,5 or 1.234,50; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?(?:\d{1,15}|\d{1,3}(?:\.\d{3}){1,4}),\d{1,15}\s*", value):
        return float(value.replace(".", "").replace(",", "."))
    return None


LAYOUTS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...], str], ...] = (
    ("Taobao's UserBehavior", ",", ("user", "item", "category", "type", "time"),
     (r"\d+", r"\d+", r"\d+", r"pv|buy|cart|fav", r"1[45]\d{8}"), ""),
    ("MovieLens", "::", ("user", "item", "rating", "time"), (r"\d+", r"\d+", r"[0-5](\.[05])?", r"\d{9,10}"), ""),
    ("MovieLens", "\t", ("user", "item", "rating", "time"), (r"\d+", r"\d+", r"[0-5](\.[05])?", r"\d{9,10}"), ""),
    ("MIND's behaviors", "\t", ("impression_id", "user", "time", "history", "impressions"),
     (r"\d+", r"U\d+", r"\d+/\d+/\d{4} .*", r"(N\d+( N\d+)*)?", r"N\d+-[01]( N\d+-[01])*"), ""),
    ("Yoochoose's clicks", ",", ("session", "time", "item", "category"),
     (r"\d+", r"\d{4}-\d\d-\d\dT[\d:.]+Z", r"\d+", r"\w+"), "click"),
    ("Yoochoose's buys", ",", ("session", "time", "item", "price", "quantity"),
     (r"\d+", r"\d{4}-\d\d-\d\dT[\d:.]+Z", r"\d+", r"\d+", r"\d+"), "purchase"),
)  # fmt: skip
"""Public sets without a header: what they are, delimiter, columns, what their fields look like, their type."""


def guesses_of(present: Sequence[str], sample: Sample, given: Columns) -> dict[str, str]:
    """Column -> what it would be taken for, of a file that lacks something: to show what is known of it."""
    chooser = _Chooser("", list(present), sample, given)
    choices: dict[str, Callable[[], str | None]] = {
        "user": lambda: chooser.one("user", USERS) or chooser.session(),
        "item": lambda: chooser.one("item", ITEMS) or chooser.other_id(),
        "time": lambda: next(iter(chooser.times()), None),
        "type": chooser.type,
        "value": lambda: chooser.one("value", VALUES, number=True),
    }
    found: dict[str, str] = {}
    for what, choose in choices.items():
        with suppress(SourceError):
            name = choose()
            if name is not None:
                found[name] = what
    return found


def layout_of(rows: Sequence[Sequence[Any]], delimiter: str) -> tuple[str, tuple[str, ...], str] | None:
    """Name, columns and fixed type of a public set that has no header, by what all of a sample looks like."""
    for name, between, columns, shapes, kind in LAYOUTS:
        if between == delimiter and rows and all(_looks(row, shapes) for row in rows):
            return name, columns, kind
    return None


def _looks(row: Sequence[Any], shapes: Sequence[str]) -> bool:
    return len(row) == len(shapes) and all(
        re.fullmatch(shape, str(value)) for shape, value in zip(shapes, row, strict=True)
    )
