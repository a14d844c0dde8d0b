"""Which ids are one person, and what is known of that person: pure functions of links and of each id's own state.

Before: the store holds the links as they were told, and a state for each id. After: whoever reads a user's features
gets those of all ids of that person as one. Nothing is folded from one id into another, so no order of events, links
and redeliveries can matter, and taking a link away gives back exactly what was there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple

import orjson

from headwater.consent import strictest
from headwater.errors import InvalidMessage
from headwater.examples import Entry, Shown, plain_entries
from headwater.privacy import Erased
from headwater.signals import Signals
from headwater.wire import IdentityRow
from streams.features.fold import REACTIONS, Limits, shown_order
from streams.features.state import EMPTY, UserState
from streams.features.undo import matched

__all__ = ["ALONE", "MOST_LINKS", "Link", "Links", "as_one", "attributes_as_one", "decode_links", "digest"]
__all__ += ["encode_links", "from_before_erasure", "linked", "person", "told_since"]

MOST_LINKS = 100
"""Most ids that one id is linked with, and most ids of one person: of more, those that were told last. A browser that
everybody logs in on must not make every answer read thousands of histories."""


class Link(NamedTuple):
    """The newest word on two ids. Of two words the greater one counts.

    Fields
        time_ms: event_time of the identity.
        offset, partition: of its record.
        linked: 1 where they are linked, 0 where the link was taken away.
    """

    time_ms: int
    offset: int
    partition: int
    linked: int


class Links(NamedTuple):
    """What was told of one id, by the other id.

    Fields
        users: whom it was linked with as a former id. It is of the newest that still counts.
        guests: its former ids.
    """

    users: Mapping[str, Link]
    guests: Mapping[str, Link]

    @property
    def user(self) -> str | None:
        """Whose it is now, if anybody's."""
        return max((user for user, link in self.users.items() if link.linked), key=self.users.__getitem__, default=None)

    def has_guest(self, other: str) -> bool:
        """Whether the other was linked with it as a former id, and not taken away since."""
        link = self.guests.get(other)
        return link is not None and link.linked == 1


ALONE = Links({}, {})
"""An id of which nothing was told."""


def linked(links: Links, row: IdentityRow, own: str) -> Links:
    """The links of one of the two ids after one more word on them; the same as the store's script, for the audit."""
    link = Link(row.time_ms, row.offset, row.partition, int(row.linked))
    users, guests = dict(links.users), dict(links.guests)
    side, other = (guests, row.was) if own == row.user_id else (users, row.user_id)
    side[other] = max(link, side.get(other, link))
    if len(side) > MOST_LINKS:
        del side[min(side, key=side.__getitem__)]
    return Links(users, guests)


def from_before_erasure(row: IdentityRow, erased: Mapping[str, Erased]) -> bool:
    """Whether a word on two ids is from before one of them was forgotten: it links nobody."""
    since = [one for one in (erased.get(row.user_id), erased.get(row.was)) if one is not None]
    return any(row.time_ms <= one.time_ms for one in since)


def told_since(links: Links, erased: Erased | None) -> Links:
    """The links of an id, without those from before it was forgotten: a store that was restored has them."""
    if erased is None or links is ALONE:
        return links
    sides = ({other: one for other, one in side.items() if one.time_ms > erased.time_ms} for side in links)
    users, guests = sides
    return Links(users, guests) if users or guests else ALONE


def encode_links(links: Links) -> bytes:
    """Links as compact JSON, as the store's script writes them.

    >>> encode_links(Links({}, {"guest-7": Link(1000, 0, 0, 1)}))
    b'{"users":{},"guests":{"guest-7":"1000 0 0 1"}}'
    """
    sides = {name: {other: " ".join(map(str, one)) for other, one in side.items()} for name, side in _sides(links)}
    return orjson.dumps(sides)


def _sides(links: Links) -> tuple[tuple[str, Mapping[str, Link]], ...]:
    return ("users", links.users), ("guests", links.guests)


def decode_links(value: bytes | None) -> Links:
    """Links from their JSON; `ALONE` for an id without. Raises InvalidMessage (`undecodable`, `schema`)."""
    if value is None:
        return ALONE
    try:
        body = orjson.loads(value)
        users, guests = ({other: _link(one) for other, one in body[side].items()} for side in ("users", "guests"))
    except orjson.JSONDecodeError as error:
        raise InvalidMessage("undecodable", f"links are not JSON ({error}): {value[:80]!r}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidMessage("schema", f"links lack a field ({error!r}): {value[:80]!r}") from error
    return Links(users, guests)


def _link(text: str) -> Link:
    return Link(*map(int, text.split(" ")))


def person(of: str, known: Mapping[str, Links]) -> tuple[tuple[str, ...], set[str]]:
    """The ids of one person: all that a chain of links joins. A link of a link counts, and a circle is one person.

    Parameters
        of: one of them.
        known: links by id. Of an id that is not there nobody knows yet whether it belongs.

    Returns
        The ids, sorted; and those that `known` has to tell of first.
    """
    found, missing = [of], set[str]()
    for own in found:
        links = known.get(own)
        if links is None:
            missing.add(own)
            continue
        others = sorted(((link, other) for other, link in links.guests.items() if link.linked), reverse=True)
        for user, guest in ((links.user, own), *((own, other) for _, other in others)):
            other = user if guest == own else guest
            if other is None or other in found or len(found) >= MOST_LINKS:
                continue
            if other not in known:
                if len(missing) < MOST_LINKS:
                    missing.add(other)
            elif known[guest].user == user and known[user or ""].has_guest(guest):
                found.append(other)
    return tuple(sorted(found)), missing


def attributes_as_one(ids: Iterable[str], told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What was told of one person by its ids; of an attribute that two have, the last id's."""
    return {name: value for one in sorted(set(ids)) for name, value in told.get(one, {}).items()}


def as_one(states: Sequence[UserState], limits: Limits) -> UserState:
    """What is known of one person.

    Parameters
        states: of each id, in the order of the ids.
        limits: how much is remembered, and what events mean.

    Returns
        The state of one user who did it all, but for what each id's own limits have forgotten. Histories are merged by
        event time (ties by id, then by arrival); an undo takes back what any id did, a reaction is to what any id was
        shown, and an event that was sent under several ids counts once. Where and when it was folded is of the state
        that was folded last. Nothing of the history is packed: who asks looks at all of it, and often.
    """
    if len(states) < 2:
        return states[0].unpacked() if states else EMPTY
    pasts, every = [[*state.history, *state.undone] for state in states], [state.undos for state in states]
    known, undos = _together(pasts), _together(every)
    copies = sum(map(len, [*pasts, *every])) - len(known) - len(undos)
    history, undone = _matched(known, undos, limits.meanings) if undos else (known, [])
    history = history[max(0, len(history) - limits.history) :]
    shown, reacted = _shown(states, history, limits)
    newest = max(states, key=lambda state: state.folded_ms)
    return UserState(
        history,
        [one for state in states for one in state.recent],
        sum(state.count for state in states) - copies,
        newest.partition,
        newest.offset,
        newest.folded_ms,
        shown,
        reacted,
        undos,
        undone,
        sum(state.exposures for state in states),
        strictest(state.word for state in states),
    )


def _together(pasts: Sequence[Sequence[Entry]]) -> list[Entry]:
    """By time; the same under several ids is the same event, as often as one of them has it."""
    every = sorted(chain.from_iterable(pasts), key=lambda entry: entry.time_ms)
    if len({entry.time_ms for entry in every}) == len(every):
        return every
    most = Counter[Entry]()
    for past in pasts:
        most |= Counter(past)
    found = []
    for entry in every:
        if most[entry]:
            most[entry] -= 1
            found.append(entry)
    return found


def _matched(known: list[Entry], undos: list[Entry], meanings: Signals) -> tuple[list[Entry], list[Entry]]:
    """What is left of these events, and what undos take of them, matched over all ids."""
    of_item: dict[str, list[Entry]] = {undo.item_id: [] for undo in undos}
    for one in known:
        if one.item_id in of_item and one.type in meanings.undoable:
            of_item[one.item_id].append(one)
    taken = Counter[Entry]()
    for item_id, some in of_item.items():
        own = [undo for undo in undos if undo.item_id == item_id]
        taken.update(one.event for one in matched(some, own, meanings.undoing) if one.event is not None)
    left, gone = list[Entry](), list[Entry]()
    for one in known:
        is_taken = taken[one] > 0
        taken[one] -= is_taken
        (gone if is_taken else left).append(one)
    return left, gone


def _shown(states: Sequence[UserState], history: Sequence[Entry], limits: Limits) -> tuple[list[Shown], list[Shown]]:
    """What was shown and not reacted to under any id; and what was, where that can still be undone."""
    last: dict[tuple[str, str], Shown] = {}
    for one in chain.from_iterable(chain(state.shown, state.reacted) for state in states):
        known = last.get((one.list_id, one.item_id))
        if known is None or shown_order(one) > shown_order(known):  # a list has an item once, as it was told last
            last[one.list_id, one.item_id] = one
    reactions: dict[str, list[Entry]] = {}
    for entry in history if last else ():
        if limits.meanings.meaning(entry.type, entry.value) in REACTIONS:
            reactions.setdefault(entry.item_id, []).append(entry)
    shown, reacted = list[Shown](), list[Shown]()
    for one in sorted(last.values(), key=shown_order):
        after = [entry for entry in reactions.get(one.item_id, ()) if entry.time_ms >= one.time_ms]
        if not after:
            shown.append(one)
        elif all(entry.type in limits.meanings.undoable for entry in after):
            reacted.append(one)
    return shown[max(0, len(shown) - limits.shown) :], reacted[max(0, len(reacted) - limits.shown) :]


def digest(state: UserState) -> str:
    """A name of what features say of a user, wherever and in whatever order it was folded: equal ones are equal bytes.
    An event and its undo leave no trace in it, though the state remembers them.

    Events of one millisecond have no order but that of their arrival, so it does not count.
    """
    known = [plain_entries(sorted(state.history, key=repr)), sorted(map(tuple, state.shown))]
    return blake2b(orjson.dumps(known), digest_size=16).hexdigest()
