"""What a Client calls the users of what it sends: pseudonyms in the place of ids, and links to what they were called.

Before: models of the app's own ids, checked as such. After: models as they go on the wire. A key that is not the newest
any more has called users something else, under which all that is known of them stands: the first time that a Client
meets one, it links the two by an Identity, as a login links a guest. Who asks may not write links: the request says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from itertools import pairwise, product
from threading import Thread
from typing import Any, TypeGuard, TypeVar

from pydantic import BaseModel

from headwater.client.outbox import Position, new_handle
from headwater.events import MAX_ID_LENGTH, Event
from headwater.identities import Identity
from headwater.privacy.pseudonyms import Names
from headwater.recommendations import NOBODY, Request
from headwater.users import User

__all__ = ["Naming"]

MOST_REMEMBERED = 200_000
"""Users that a Client remembers to have linked; to link one twice changes nothing."""

Model = TypeVar("Model", bound=BaseModel)

_IDS = ("user_id", "session_id", "was")
"""Fields that name a person. A session may be a user of its own, so it is called as one is."""


class Naming:
    """Of one Client. Thread-safe.

    Parameters
        pseudonyms: of the app.
        link: tells that a user (first) had another id (second).
    """

    def __init__(self, pseudonyms: Names, link: Callable[[str, str], Future[Any]]) -> None:
        self.pseudonyms = pseudonyms
        self._link = link
        self._rotated = pseudonyms.rotated
        self._linked: set[str] = set()

    def names(self, user_id: str) -> tuple[str, ...]:
        """What a user is called, and was under the keys before."""
        return (self.pseudonyms.of(user_id), *self.pseudonyms.former(user_id))

    def fields(self, given: Event | Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The fields of an event, not checked yet, with pseudonyms; None where only a check tells what names it has.

        It saves the copy of each event: 0.3 us in the place of 1.5.
        """
        if type(given) is not dict:
            return None
        user_id, session_id = given.get("user_id"), given.get("session_id")
        if not _is_plain(user_id) or not (session_id is None or _is_plain(session_id)):
            return None
        own = self.pseudonyms.of(user_id)
        if self._rotated and own not in self._linked:
            self._meet(user_id)
        if session_id is None:
            return {**given, "user_id": own}
        return {**given, "user_id": own, "session_id": self.pseudonyms.of(session_id)}

    def event(self, event: Event) -> Event:
        """An event, as it is sent; what its user was called before is linked."""
        of = self.pseudonyms.of
        changed = {"user_id": of(event.user_id)}
        if event.session_id is not None:
            changed["session_id"] = of(event.session_id)
        if self._rotated:
            self._meet(event.user_id)
        return event.model_copy(update=changed)

    def links(self, identity: Identity) -> list[Identity]:
        """A link, as it is sent: of all that the two are called and were called, the newest last, so that it counts."""
        if self._rotated:
            self._meet(identity.user_id)
            self._meet(identity.was)
        pairs = product(self.names(identity.user_id)[::-1], self.names(identity.was)[::-1])
        return [identity.model_copy(update={"user_id": user_id, "was": was}) for user_id, was in pairs]

    def forgotten(self, asked: Future[Position], names: Iterable[str]) -> Future[Position]:
        """A handle for an erasure that is asked for: done when keys of the users' own are destroyed as well."""
        done = new_handle()

        def destroy() -> None:
            try:
                position = asked.result()
                self.pseudonyms.destroy(names)
            except Exception as error:  # noqa: BLE001 - whoever holds the handle is told
                done.set_exception(error)
            else:
                done.set_result(position)

        # by a thread of its own: it may wait for others that read the file, and here records are acknowledged
        asked.add_done_callback(lambda _: Thread(target=destroy, name="destroy-keys").start())
        return done

    def user(self, user: User) -> User:
        """Attributes, as they are sent; what the user was called before is linked."""
        if self._rotated:
            self._meet(user.user_id)
        return self.told(user)

    def told(self, model: Model) -> Model:
        """The same with pseudonyms in the fields that name somebody."""
        held = {name: getattr(model, name, None) for name in _IDS}
        return model.model_copy(update={name: self.pseudonyms.of(one) for name, one in held.items() if one is not None})

    def request(self, request: Request) -> Request:
        """A request, as it is sent; it names what its user was called before, unless the app names another id."""
        named = self.told(request)
        if self._rotated and request.was is None and request.whose is not None:
            named = named.model_copy(update={"was": self.pseudonyms.former(request.whose)[0]})
        if not request.recent_events:
            return named
        nobody = NOBODY if request.whose is None else None
        own = tuple(one if one.user_id == nobody else self.told(one) for one in request.recent_events)
        return named.model_copy(update={"recent_events": own})

    def _meet(self, user_id: str) -> None:
        """Link what a user is called with what it was called under the keys before, once.

        The new name is told as one that the old one had before: an id is linked with the user that it was linked with
        last, and the old name may be linked with a user already, as a guest is.
        """
        own = self.pseudonyms.of(user_id)
        if own in self._linked:
            return
        if len(self._linked) >= MOST_REMEMBERED:
            self._linked.clear()
        sent = [self._link(before, after) for after, before in pairwise(self.names(user_id))]
        self._linked.add(own)
        for one in sent:
            one.add_done_callback(lambda done: self._linked.discard(own) if done.exception() else None)


def _is_plain(value: Any) -> TypeGuard[str]:
    """Whether it is an id for sure, as a model would have it."""
    return type(value) is str and 0 < len(value) <= MAX_ID_LENGTH and value.isascii()
