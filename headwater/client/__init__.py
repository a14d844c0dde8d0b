"""What an app talks to: track events, publish items, ask for recommendations, read them all.

Before: an app. After: Kafka; the workers do the rest. Knows nothing of the engine: all it does, any Kafka client can do
with the JSON that docs/contract describes.

A Client holds threads and sockets, which a fork does not carry over: make one per process, after the fork (in gunicorn,
in the worker; with multiprocessing, in the child). A Client that finds itself in another process says so.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfTime  # the built-in one since Python 3.11
from itertools import pairwise
from types import TracebackType
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from headwater import tracing
from headwater.client.lanes import Lanes
from headwater.client.naming import Naming
from headwater.client.outbox import CLOSED, LinkPosition, Outbox, Position, whole_of
from headwater.client.replies import RecommendationStream, ReplyReader
from headwater.errors import DeadlineExceeded, HeadwaterError, InvalidMessage
from headwater.events import MAX_ID_LENGTH, OLDEST_MS, Event, Item
from headwater.identities import Identity
from headwater.privacy import ConsentWord, Erasure
from headwater.privacy.pseudonyms import names_of
from headwater.recommendations import Recommendation, Request
from headwater.settings import KafkaSettings, Settings, changed_kafka, load_settings
from headwater.surfaces import Surface
from headwater.topics import CONSENTS, ERASURES, IDENTITIES, ITEMS, REQUESTS, SURFACES, USERS, Topic
from headwater.users import User
from headwater.wire import MAX_PROPERTIES_BYTES, MAX_VALUE_BYTES, TimeBounds, check_depth, encode, validated

__all__ = ["Client", "Delivery", "Position", "RecommendationStream"]

Model = TypeVar("Model", bound=BaseModel)


class Delivery:
    """What `track_many` and `put_items` return: how many were sent, and a handle for each record that carries them."""

    def __init__(self, count: int, records: list[Future[Position]]) -> None:
        self.count = count
        self.records = records

    def result(self, timeout: float | None = None) -> dict[int, int]:
        """Wait until all records are acknowledged.

        Parameters
            timeout: seconds; None waits for ever.

        Returns
            Partition -> offset of the last record there.

        Raises
            HeadwaterError, TimeoutError: the first failure, or not all in time.
        """
        until_s = None if timeout is None else time.monotonic() + timeout
        return _newest(_waited(self.records, until_s))


Handle = Position | Future[Position] | Delivery
After = Mapping[str, int] | Handle | Iterable[Handle]


class Client:
    """What an app holds: producer, requests and their answers. Thread-safe: many threads share one. Use it as a context
    manager, or call `close()`.

    Parameters
        bootstrap, prefix: `host:port` of Kafka, and what precedes topic names. They win over `settings`.
        source: names the app in the CloudEvents headers.
        settings: those of environment and file if None (see headwater.settings); or of Kafka alone, and then users'
            ids are sent as they are: pseudonyms are a setting of `privacy`. `kafka.linger_ms` is how long an event may
            wait behind an unacknowledged record of its partition to share the next one; a lone event never waits, and 0
            sends every event in a record of its own.
        batch_events: most events in one packed record.
        connect_timeout_s: how long to look for a broker.
        delivery_timeout_s: what Kafka has not acknowledged by then fails, in its handle and in `flush`.
        oldest_ms: an event before it is refused, as the workers do; None is `streams.oldest` of the settings.

    Raises
        SettingsError: `bootstrap` is not host:port, or a key of pseudonyms cannot be read.
        Unavailable: no Kafka answers in time.
    """

    def __init__(
        self,
        bootstrap: str | None = None,
        *,
        prefix: str | None = None,
        source: str = "app",
        settings: Settings | KafkaSettings | None = None,
        batch_events: int = 200,
        connect_timeout_s: float = 5.0,
        delivery_timeout_s: float = 30.0,
        oldest_ms: int | None = None,
    ) -> None:
        if settings is None:
            settings = load_settings()
        pseudonyms = None
        if isinstance(settings, Settings):
            pseudonyms = names_of(settings.privacy)
            oldest_ms = settings.streams.oldest_ms if oldest_ms is None else oldest_ms
            settings = settings.kafka
        self._times = TimeBounds(OLDEST_MS if oldest_ms is None else oldest_ms)
        given = {"bootstrap": bootstrap, "prefix": prefix}
        changed = {name: value for name, value in given.items() if value is not None}
        self.settings = changed_kafka(settings, **changed) if changed else settings
        self._connect_timeout_s = connect_timeout_s
        self._delivery_timeout_s = delivery_timeout_s
        self._outbox = Outbox(self.settings, connect_timeout_s, delivery_timeout_s)
        self._lanes = Lanes(self._outbox, source, self.settings.linger_ms, batch_events)
        self._replies = ReplyReader(self.settings, connect_timeout_s)
        self._naming = None if pseudonyms is None else Naming(pseudonyms, self._link)
        self._process = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self._at_exit = _closer(weakref.ref(self))
        atexit.register(self._at_exit)

    def track(
        self, user_id: str, item_id: str | None = None, type: str | None = None, **fields: Any
    ) -> Future[Position]:
        """Send that a user did something with an item, or was shown a list of them. Returns at once.

        Parameters
            user_id, item_id: at most 256 characters each. A list that was shown, `items`, needs no `item_id`.
            type: short and lower-case: view, click, purchase, rating, impression, ...
            fields: the other fields of Event, such as `value`, `event_time`, `items` and the `request_id` of the answer
                that is reacted to.

        Returns
            A handle whose result is the record's position. Give it to `recommend(after=...)` to be sure that the answer
            knows of the event.

        Raises
            InvalidMessage: the workers would refuse the event.
            Unavailable: the topic is not there, or 64 MiB wait for acknowledgement. Later failures are in the handle,
                and in `flush()`.
        """
        self._check()
        return self._lanes.put(*self._event({"user_id": user_id, "item_id": item_id, "type": type, **fields}))

    def track_many(self, events: Iterable[Event | Mapping[str, Any]]) -> Delivery:
        """Send many events in packed records, many of one partition in each. Events of a user keep their order.

        Parameters
            events: read as it goes.

        Returns
            How many were sent, and a handle for each record.

        Raises
            InvalidMessage, Unavailable: as `track`, at the first bad event; what came before it is sent.
        """
        self._check()
        count, records = self._lanes.put_many(map(self._event, events))
        return Delivery(count, records)

    def check(self, given: Event | Item | User) -> None:
        """Whether it would be sent, without sending it: for who sends all of several, or none.

        Raises
            InvalidMessage: as the verb that sends it.
        """
        if isinstance(given, Event):
            self._valued(given)
        else:
            _encoded(given, type(given).__name__.lower())

    def put_items(self, items: Iterable[Item | Mapping[str, Any]]) -> Delivery:
        """Publish catalogue entries; an entry replaces the one of the same id.

        Raises
            InvalidMessage, Unavailable: as `track_many`.
        """
        self._check()
        self._outbox.partitions(ITEMS)
        made = (one if isinstance(one, Item) else _made(Item, one) for one in items)
        records = [self._put(ITEMS, one.item_id.encode(), _encoded(one, f"item {one.item_id}")) for one in made]
        return Delivery(len(records), records)

    def _put(self, topic: Topic, key: bytes, value: bytes) -> Future[Position]:
        """Send a record under a key."""
        self._outbox.reserve(len(value))
        return self._outbox.send(topic, value, key=key, reserved=len(value))

    def remove_item(self, item_id: str) -> Future[Position]:
        """Take an item out of the catalogue. Raises as `track`."""
        self._check()
        self._outbox.partitions(ITEMS)
        return self._outbox.send(ITEMS, None, key=_made(Item, {"item_id": item_id}).item_id.encode())

    def put_surface(self, name: str, surface: Surface | Mapping[str, Any]) -> Future[Position]:
        """Answer by this policy from now on wherever a request names it; it replaces the one of the same name.

        Raises
            InvalidMessage, Unavailable: as `track`.
        """
        self._check()
        made = surface if isinstance(surface, Surface) else _made(Surface, surface)
        value = _encoded(made, f"surface {name}")
        self._outbox.partitions(SURFACES)
        return self._put(SURFACES, _surface_key(name), value)

    def remove_surface(self, name: str) -> Future[Position]:
        """The surface of the settings is back, or there is none of this name any more. Raises as `track`."""
        self._check()
        self._outbox.partitions(SURFACES)
        return self._outbox.send(SURFACES, None, key=name.encode())  # whatever somebody has named a surface

    def put_users(self, users: Iterable[User | Mapping[str, Any]]) -> Delivery:
        """Tell attributes of users; what is told of a user replaces, whole, what was told before.

        Raises
            InvalidMessage, Unavailable: as `track_many`.
        """
        self._check()
        self._outbox.partitions(USERS)
        count, records = 0, []
        for one in users:
            made = one if isinstance(one, User) else _made(User, one)
            named = made if self._naming is None else self._naming.user(made)
            key, *former = self._names(made.user_id)
            records.append(self._put(USERS, key.encode(), _encoded(named, f"user {key}")))
            records += [self._outbox.send(USERS, None, key=before.encode()) for before in former]
            count += 1
        return Delivery(count, records)

    def delete_users(self, user_ids: Iterable[str]) -> Delivery:
        """Erase what was told of these users by `put_users`. What they did is not touched.

        Raises
            InvalidMessage, Unavailable: as `track_many`.
        """
        self._check()
        self._outbox.partitions(USERS)
        made = [_made(User, {"user_id": one}).user_id for one in user_ids]
        records = [self._outbox.send(USERS, None, key=key.encode()) for one in made for key in self._names(one)]
        return Delivery(len(made), records)

    def forget_user(self, user_id: str, erased_time: int | None = None) -> Future[Position]:
        """Ask that a user be forgotten, for good: what happened until now, or until `erased_time` (epoch ms of event
        time). What comes later begins anew. Of a person with several ids, ask for each. A key of the user's own is
        destroyed once Kafka has the word. docs/privacy.md

        Raises
            InvalidMessage, Unavailable: as `track`.
        """
        self._check()
        made = _made(Erasure, {"user_id": user_id, "erased_time": erased_time})
        self._outbox.partitions(ERASURES)
        names = self._names(made.user_id)
        asked = [made.model_copy(update={"user_id": one}) for one in names]
        sent = [self._outbox.send(ERASURES, _encoded(one, "erasure"), key=one.user_id.encode()) for one in asked]
        return whole_of(sent) if self._naming is None else self._naming.forgotten(whole_of(sent), names)

    def set_consent(
        self,
        user_id: str,
        *,
        personalise: bool | None = None,
        train: bool | None = None,
        analyse: bool | None = None,
        consent_time: int | None = None,
    ) -> Future[Position]:
        """Say for which purposes what a user does may be used: all of them in one word, which replaces the one before.
        What is withdrawn is taken away within seconds. Of a person with several ids, say it of each. docs/privacy.md

        Parameters
            user_id: of whom.
            personalise, train, analyse: granted or denied; None where the user has said nothing of it.
            consent_time: when the user said so, epoch ms; of two words the later counts. None: now.

        Raises
            InvalidMessage, Unavailable: as `track`; Unavailable also where `privacy.consent` is off in this world.
        """
        self._check()
        said = {"personalise": personalise, "train": train, "analyse": analyse}
        word = _made(ConsentWord, {"user_id": user_id, "consent_time": consent_time, **said})
        self._outbox.partitions(CONSENTS)
        words = [word.model_copy(update={"user_id": one}) for one in self._names(word.user_id)]
        sent = [self._outbox.send(CONSENTS, _encoded(one, "consent"), key=one.user_id.encode()) for one in words]
        return whole_of(sent)

    def identify(self, user_id: str, was: str, **fields: Any) -> Future[Position]:
        """Tell that a user is known by another id, too: at a login, the guest's. Returns at once.

        What the other id did, and will do, counts as done by the user. The word that is newest by `event_time` counts,
        so it can come in any order and more than once; an id is linked with the user that it was linked with last.

        Parameters
            user_id: who it is.
            was: the id before.
            fields: the other fields of Identity, such as `event_time`.

        Returns
            A handle whose result is the record's position. Give it to `recommend(after=...)` to be sure that the answer
            knows of it; for one answer, `recommend(user_id, was=...)` will do.

        Raises
            InvalidMessage, Unavailable: as `track`.
        """
        return self._send_identity({"user_id": user_id, "was": was, **fields})

    def forget_identity(self, user_id: str, was: str, **fields: Any) -> Future[Position]:
        """Take a link away again: features of both are as if there had never been one. Otherwise as `identify`."""
        return self._send_identity({"user_id": user_id, "was": was, **fields, "linked": False})

    def link_pseudonyms(self, user_ids: Iterable[str]) -> Delivery:
        """Link what users are called with what they were called under the keys of pseudonyms before. A Client does so
        by itself when it sends something of a user; this is for all the others, before an old key is taken away.

        Returns
            How many users there were; no record where one key alone, or none, is set.

        Raises
            InvalidMessage, Unavailable: as `track_many`.
        """
        self._check()
        count, records = 0, list[Future[Position]]()
        for one in user_ids:
            names = self._names(_made(User, {"user_id": one}).user_id)
            records += [self._link(before, after) for after, before in pairwise(names)]
            count += 1
        return Delivery(count, records)

    def pseudonym(self, user_id: str) -> str:
        """What a user is called in topics, in `recommendations()` and in the store: the id itself where no keys of
        pseudonyms are set. Raises InvalidMessage for what is no id.
        """
        return self.names(user_id)[0]

    def names(self, user_id: str) -> tuple[str, ...]:
        """What a user is called, and was under the keys of pseudonyms before, newest first. Raises as `pseudonym`."""
        return self._names(_made(User, {"user_id": user_id}).user_id)

    def recommend(
        self, user_id: str | None = None, k: int | None = None, deadline_s: float = 2.0, **fields: Any
    ) -> Recommendation:
        """Ask for the best items for a user and wait for the answer.

        Parameters
            user_id: whom for. None for somebody without an id: give `session_id`, `recent_events` or `context_item`.
            k: how many, 1 to 1,000. None: as many as the surface says, 10 without one.
            deadline_s: how long the answer is of use.
            fields: the other fields of Request: `surface="home"` answers by the policy of that place on the page,
                `overrides={"diversity": 0.3}` changes it for this answer, `context={"device": "phone"}` says more of
                the moment, `explain=True` and `why_not="film-7"` ask why. `after` may be handles from `track`,
                `track_many` and `identify`, or their results: the answer then knows of those.

        Raises
            InvalidMessage: the workers would refuse the request.
            DeadlineExceeded: no answer came in time.
            RequestRefused: the answer is an error.
            Unavailable: the request could not be sent.
        """
        until_s = time.monotonic() + deadline_s
        request_id, answer = self._ask(user_id, k, deadline_s, fields)
        try:
            return answer.result(max(0.0, until_s - time.monotonic()))
        except OutOfTime:
            self._replies.expire(request_id)
            return answer.result()

    def recommend_async(
        self, user_id: str | None = None, k: int | None = None, deadline_s: float = 2.0, **fields: Any
    ) -> Future[Recommendation]:
        """As `recommend`, for many at a time. Waits only for the handles in `after`.

        Returns
            A future; in asyncio `await asyncio.wrap_future(client.recommend_async(...))`. DeadlineExceeded comes within
            0.1 s of the deadline.
        """
        return self._ask(user_id, k, deadline_s, fields)[1]

    def recommendations(
        self, group: str | None = None, *, from_beginning: bool = False, idle_s: float | None = None
    ) -> RecommendationStream:
        """All recommendations, as they are made: the log of exposures.

        Parameters
            group: a consumer group, which goes on where it stopped; None reads from now on.
            from_beginning: where a group that is new, or none, begins.
            idle_s: ends the iteration after so long a silence.

        Raises
            Unavailable: no Kafka answers in time.
        """
        self._check()
        return RecommendationStream(self.settings, self._connect_timeout_s, group, from_beginning, idle_s)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until Kafka has all that was sent.

        Parameters
            timeout_s: how long; `delivery_timeout_s` if None.

        Raises
            Unavailable: something failed since the last flush.
        """
        self._check()
        self._lanes.release()
        self._outbox.flush(self._delivery_timeout_s if timeout_s is None else timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Send what waits, end what is outstanding, stop every thread. Can be called again.

        Parameters
            timeout_s: how long all of that may take.

        Raises
            Unavailable: as `flush`.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self._at_exit)
        if os.getpid() != self._process:
            return  # the threads and the unsent records are the parent's
        until_s = time.monotonic() + timeout_s
        try:
            self._lanes.close()
            self._outbox.flush(timeout_s)
        finally:
            self._replies.close()
            self._outbox.close(max(0.0, until_s - time.monotonic()))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # the error on its way out says more than what could not be flushed because of it
            with contextlib.suppress(HeadwaterError):
                self.close()

    def _check(self) -> None:
        if self._closed:
            raise HeadwaterError(CLOSED)
        if os.getpid() != self._process:
            raise HeadwaterError(
                f"this Client was made in process {self._process} and is used in {os.getpid()}: a fork does not carry "
                "its threads over. Make one Client in each process."
            )

    def _event(self, given: Event | Mapping[str, Any]) -> tuple[Event, bytes]:
        named = None if self._naming is None else self._naming.fields(given)
        event = given if isinstance(given, Event) else _made(Event, named or given)
        return self._valued(event if self._naming is None or named else self._naming.event(event))

    def _valued(self, event: Event) -> tuple[Event, bytes]:
        if event.event_time < self._times.oldest_ms:
            raise self._times.refusal(event.event_time, f"event {event.event_id}")
        return _valued(event)

    def _names(self, user_id: str) -> tuple[str, ...]:
        """What a user is called, and was under keys that are not the newest."""
        return (user_id,) if self._naming is None else self._naming.names(user_id)

    def _link(self, user_id: str, was: str) -> Future[Position]:
        self._outbox.partitions(IDENTITIES)
        return self._put(IDENTITIES, user_id.encode(), encode(Identity(user_id=user_id, was=was)))

    def _send_identity(self, given: dict[str, Any]) -> Future[Position]:
        self._check()
        identity = _made(Identity, given)
        at = f"identity {identity.was} of {identity.user_id}"
        if identity.event_time < self._times.oldest_ms:
            raise self._times.refusal(identity.event_time, at)
        self._outbox.partitions(IDENTITIES)
        told = [identity] if self._naming is None else self._naming.links(identity)
        return whole_of([self._put(IDENTITIES, one.user_id.encode(), _encoded(one, at)) for one in told][::-1])

    def _ask(
        self, user_id: str | None, k: int | None, deadline_s: float, fields: dict[str, Any]
    ) -> tuple[str, Future[Recommendation]]:
        self._check()
        until_s = time.monotonic() + deadline_s
        after, after_identities = _after(fields.pop("after", None), until_s)
        given = {"user_id": user_id, "k": k, "deadline_ms": max(1, round(deadline_s * 1000)), "after": after}
        request = _made(Request, {**given, "after_identities": after_identities, **fields})
        asked_for = request.whose
        if self._naming is not None:
            request = self._naming.request(request)
        value = _encoded(request, f"request {request.request_id}")
        self._outbox.partitions(REQUESTS)
        request_id = request.request_id
        whose = request.whose or request_id
        partition, answer = self._replies.expect(request_id, asked_for or request_id, deadline_s, until_s)
        span = tracing.begun("recommend", kind="client", request_id=request_id)
        span.ends_with(answer)
        own = [("correlation-id", request_id.encode()), ("reply-partition", str(partition).encode())]
        sent = self._outbox.send(REQUESTS, value, key=whose.encode(), headers=[*own, *span.headers])
        sent.add_done_callback(lambda done: self._not_sent(request_id, done))
        return request_id, answer

    def _not_sent(self, request_id: str, sent: Future[Position]) -> None:
        error = sent.exception()
        if isinstance(error, HeadwaterError):
            self._replies.fail(request_id, error)


def _closer(client: weakref.ref[Client]) -> Any:
    """Closes a Client that nobody closed when the interpreter exits; holds no reference to it."""

    def close() -> None:
        one = client()
        if one is not None:
            with contextlib.suppress(HeadwaterError):  # already logged where it happened
                one.close(timeout_s=1.0)

    return close


def _valued(event: Event) -> tuple[Event, bytes]:
    if event.properties is None:
        return event, encode(event)
    at = f"event {event.event_id}"
    value = _encoded(event, at)
    if (
        len(value) > MAX_PROPERTIES_BYTES
        and len(orjson.dumps(orjson.loads(value)["properties"])) > MAX_PROPERTIES_BYTES
    ):
        text = f"{at}: properties take over {MAX_PROPERTIES_BYTES:,} bytes. Send a reference instead."
        raise InvalidMessage("too_large", text)
    return event, value


def _made(model: type[Model], given: Mapping[str, Any]) -> Model:
    name = model.__name__
    if not isinstance(given, Mapping):
        text = f"{name}: given a {type(given).__name__}. Give one {name} or a mapping of its fields."
        raise InvalidMessage("schema", text)
    return validated(model, dict(given), name)


def _surface_key(name: str) -> bytes:
    if not 0 < len(name) <= MAX_ID_LENGTH:
        raise InvalidMessage("schema", f"surface: the name has {len(name):,} characters (1 to {MAX_ID_LENGTH})")
    return name.encode()


def _encoded(model: BaseModel, at: str) -> bytes:
    """The value that is sent, within the limits that its readers have."""
    value = encode(model)
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidMessage("too_large", f"{at}: {len(value):,} bytes (limit {MAX_VALUE_BYTES:,}). Send less.")
    check_depth(value, at)
    return value


def _after(given: After | None, until_s: float) -> tuple[dict[str, int] | None, dict[str, int] | None]:
    """What `Request.after` and `.after_identities` hold, from what callers have: a mapping, or handles, waited for
    until the deadline.
    """
    if given is None:
        return None, None
    if isinstance(given, Mapping):
        return {str(partition): offset for partition, offset in given.items()}, None
    several = isinstance(given, Iterable) and not isinstance(given, Position)
    found: list[Position | Future[Position]] = []
    for one in given if several else [given]:  # type: ignore[union-attr]
        if isinstance(one, Delivery):
            found += one.records
        elif isinstance(one, Position | Future):
            found.append(one)
        else:
            text = f"after: given a {type(one).__name__}. Give what `track`, `track_many` or `identify` returned."
            raise InvalidMessage("schema", text)
    try:
        positions = _waited(found, until_s)
    except OutOfTime as error:
        raise DeadlineExceeded("what `after` names was not acknowledged before the deadline. Check Kafka.") from error
    links = [one for one in positions if isinstance(one, LinkPosition)]
    events = _newest(one for one in positions if not isinstance(one, LinkPosition))
    return _texts(events), _texts(_newest(links)) if links else None


def _texts(newest: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in newest.items()}


def _waited(handles: Iterable[Position | Future[Position]], until_s: float | None) -> list[Position]:
    def left_s() -> float | None:
        return None if until_s is None else max(0.0, until_s - time.monotonic())

    return [one if isinstance(one, Position) else one.result(left_s()) for one in handles]


def _newest(positions: Iterable[Position]) -> dict[int, int]:
    newest: dict[int, int] = {}
    for partition, offset in positions:
        newest[partition] = max(offset, newest.get(partition, -1))
    return newest
