"""The feature store: user states, item statistics, popularity, catalogue and marks in Redis or Valkey.

Before: the streams worker writes one batch with `apply`. After: serving reads users and popularity, the console reads
counts. The only file that speaks Redis, and it knows no Kafka.

Keys, all under the world's prefix: `u:<user>` state (see `packed`), `i:<item>` hash of statistics (counts `n:<type>`
and `m:<meaning>`, `log2` of the decayed weight), `totals` the same counts of all items, `popular` sorted set of log2
decayed weight, `landmark` of the decay, `marks` hash of events partition -> newest folded offset, `item:<id>`
catalogue JSON, `marks:items` the same for the items topic, `a:<user>` JSON of the attributes that were told of a
user, `marks:users` for that topic, `w:<id>` JSON of the ids that it is linked with,
`marks:identities` for that topic, `dead` hash of reason -> dead letters, `marks:dead` by their source.

Every write is one script that first compares marks, so running it twice (redis-py's retry, a redelivered batch, a
worker that lost its partition) changes nothing the second time. Works on Redis 7.0 and on Valkey.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headwater.errors import AccessDenied, HeadwaterError, InvalidMessage, NewerFormat, StoreDamaged, Unavailable
from headwater.settings import RedisSettings
from headwater.topics import EVENTS, IDENTITIES, ITEMS, USERS, Topic, topic_name
from headwater.users import checked_attributes
from headwater.wire import IdentityRow
from streams.features.decay import Decay, ItemStatistics
from streams.features.identity import ALONE, MOST_LINKS, Link, Links, attributes_as_one, decode_links, person
from streams.features.packed import decode, encode
from streams.features.state import EMPTY, UserState

__all__ = ["Batch", "FeatureStore", "Reading", "Verdict"]

PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
)
"""What redis-py raises when a server is away, full, or in the middle of a failover."""

REFUSING = (
    redis.AuthenticationError,
    redis.exceptions.AuthenticationWrongNumberOfArgsError,
    redis.exceptions.NoPermissionError,
)
"""What it raises when the server does not let us in, or not do this."""

MARKS = "offsets by partition"

PEOPLE = 10_000
"""Ids of which it is remembered who was the same person, so that they are read together in one round trip."""

OTHER_MARKS = {ITEMS.name: "marks:items", USERS.name: "marks:users", IDENTITIES.name: "marks:identities"}
"""Of topics whose marks have a key of their own."""

Verdict = Literal["applied", "marks", "users", "landmark"]
"""What `apply` did: wrote everything, or wrote nothing because marks, users or landmark had changed since the read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Users as they were at one moment, with the marks that were folded by then: the states hold every event at or
    below them, and none above.

    Fields
        states: by user id, of those whose key holds one or nothing.
        marks: events partition -> offset of the newest record folded.
        decay: None before any event.
        damaged: user id -> what the key holds, where that is no state; None is a key of another type.
        newer: user id -> why its state cannot be read: a later release wrote it, and nobody may write over it.
        people: id -> all ids of that person, sorted, itself among them; of those whose links were asked for and that
            have any. `states` has theirs, too.
        identities: partition of that topic -> offset of the newest record that has taken effect.
        unlinked: ids whose key holds what no links are; they are read as if they had none.
        attributes: by user id, of those of whom any were told.
        untold: ids whose key holds what no attributes are; they are read as if they had none.
        users: partition of that topic -> offset of the newest record that the attributes are as of.
    """

    states: dict[str, UserState]
    marks: dict[int, int]
    decay: Decay | None
    damaged: Mapping[str, bytes | None] = field(default_factory=dict)
    newer: Mapping[str, NewerFormat] = field(default_factory=dict)
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    identities: Mapping[int, int] = field(default_factory=dict)
    unlinked: Sequence[str] = ()
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    untold: Sequence[str] = ()
    users: Mapping[int, int] = field(default_factory=dict)

    def attributes_of(self, ids: Iterable[str]) -> dict[str, Any]:
        """Of the person that these ids are, by all that it has."""
        return attributes_as_one({other for one in ids for other in self.people.get(one, (one,))}, self.attributes)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one round of folding made.

    Fields
        marks: partition -> (offset expected now or None, offset to set).
        decay: of item statistics; None where there is none to set.
        before, after: states by user id; `after` was folded from `before`, whose counts the script compares.
        items: what to add to the statistics of each item.
    """

    marks: Mapping[int, tuple[int | None, int]]
    decay: Decay | None = None
    before: Mapping[str, UserState] = field(default_factory=dict)
    after: Mapping[str, UserState] = field(default_factory=dict)
    items: Mapping[str, ItemStatistics] = field(default_factory=dict)


class FeatureStore:
    """Reads and writes features under one prefix. Thread-safe, as redis-py's client is.

    Parameters
        settings: URL and time-out.
        prefix: of all keys.
        on_damage: told of each key that held what nobody wrote and begins anew.

    Raises
        StoreDamaged: marks or landmark hold what nobody wrote.
        Unavailable: here for a URL that is none; from every method when the server does not answer. It names the URL
            without its password.
        AccessDenied: from every method when the server does not let us in: no waiting mends that.
        HeadwaterError: from every method when the server refuses a command.
    """

    def __init__(
        self, settings: RedisSettings, prefix: str = "", on_damage: Callable[[str], None] = lambda _key: None
    ) -> None:
        url = settings.url.get_secret_value()
        self.prefix = prefix
        self._on_damage = on_damage
        self._people: dict[str, tuple[str, ...]] = {}
        self.address = _without_password(url)
        try:
            self._redis = redis.Redis.from_url(
                url,
                socket_timeout=settings.timeout_s,
                socket_connect_timeout=settings.timeout_s,
                retry=Retry(NoBackoff(), 1),  # one try more covers a pooled connection that went stale
            )
        except ValueError as error:
            raise Unavailable(f"redis.url {self.address}: {error}. Give redis://host:port/db") from error
        folder = Path(__file__).parent
        self._apply = self._redis.register_script((folder / "apply.lua").read_text())
        self._items = self._redis.register_script((folder / "items.lua").read_text())
        self._links = self._redis.register_script((folder / "links.lua").read_text())
        self._mend = self._redis.register_script((folder / "mend_users.lua").read_text())
        self._dead = self._redis.register_script((folder / "dead_letters.lua").read_text())

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except REFUSING as error:
            raise _refused(self.address, error) from error
        except PASSING as error:
            broken = _broken_tls(error)
            if broken is not None and self.address.startswith("rediss:"):
                raise _refused(self.address, broken) from error
            raise Unavailable(
                f"no Redis answers at {self.address} ({error}). Start one (`headwater up` brings its own), "
                "or set HEADWATER_REDIS__URL to where it is."
            ) from error
        except redis.RedisError as error:
            raise HeadwaterError(f"Redis at {self.address} refused a command ({error})") from error

    def ping(self) -> str:
        """The server's name and version, as `valkey 9.1.2` or `redis 7.0.15`."""
        with self._answering():
            info = self._redis.info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get(f'{name}_version', info['redis_version'])}"

    def time_s(self) -> float:
        """The server's clock, seconds since 1970."""
        with self._answering():
            seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6

    def evicts(self) -> str | None:
        """The policy by which the server throws keys away when it is full, if it may."""
        with self._answering():
            memory = self._redis.info("memory")
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        return None if policy == "noeviction" else policy

    def read_users(self, user_ids: Sequence[str], links_of: Sequence[str] | None = None) -> Reading:
        """States of these users, the marks and the decay, of one moment. An unknown user has the empty state; so has a
        key of another type, which `foreign_users` tells.

        Parameters
            user_ids: whose states.
            links_of: whose links, too, and the states of all ids that are the same person; of these users if None. Who
                has none costs a key in the same round trip; who has some a round trip more, or two, the first time.
        """
        links_of = list(dict.fromkeys(user_ids if links_of is None else links_of))
        guess = [other for one in links_of for other in self._people.get(one, ())]  # what is read now decides
        known: dict[str, Links] = {}
        unlinked: set[str] = set()
        asked = list(dict.fromkeys([*links_of, *guess]))
        while True:
            users = list(dict.fromkeys([*user_ids, *asked[len(links_of) :]]))
            reading, values = self._read_at_once(users, asked)
            for one, value in zip(asked, values, strict=True):
                try:
                    known[one] = decode_links(value)
                except InvalidMessage:
                    unlinked.add(one)
                    known[one] = ALONE
            people, missing = {}, set[str]()
            for one in links_of:
                if known[one] is not ALONE:
                    ids, more = person(one, known)
                    missing |= more
                    if len(ids) > 1:
                        people[one] = ids
            if not missing.difference(asked):
                self._remember(links_of, people)
                return replace(reading, people=people, unlinked=sorted(unlinked))
            asked += sorted(missing.difference(asked))

    def _remember(self, ids: Sequence[str], people: Mapping[str, tuple[str, ...]]) -> None:
        if len(self._people) > PEOPLE:
            self._people.clear()
        for one in ids:
            if one in people:
                self._people[one] = people[one]
            else:
                self._people.pop(one, None)

    def _read_at_once(self, user_ids: Sequence[str], links_of: Sequence[str]) -> tuple[Reading, Sequence[bytes | None]]:
        """One transaction; the links as they are stored."""
        prefix = self.prefix
        pipe = self._redis.pipeline(transaction=True)
        pipe.hgetall(f"{prefix}marks")
        pipe.get(f"{prefix}landmark")
        pipe.hgetall(f"{prefix}marks:identities")
        pipe.hgetall(f"{prefix}{OTHER_MARKS[USERS.name]}")
        keys = [f"{prefix}u:{user}" for user in user_ids]
        keys += [f"{prefix}{kind}:{one}" for kind in ("w", "a") for one in links_of]
        if keys:
            pipe.mget(keys)
        found = self._executed(pipe)
        values: Sequence[bytes | None] = found[4] if keys else ()
        states: dict[str, UserState] = {}
        damaged: dict[str, bytes | None] = {}
        newer: dict[str, NewerFormat] = {}
        for user, value in zip(user_ids, values, strict=False):
            try:
                states[user] = decode(value)
            except InvalidMessage:
                damaged[user] = value
            except NewerFormat as error:
                newer[user] = error
        # marks of another type: the script that writes them begins anew
        identities, users = ({} if isinstance(one, Exception) else _integers(one) for one in found[2:4])
        end = len(user_ids) + len(links_of)
        attributes, untold = _attributes(links_of, values[end:])
        reading = Reading(
            states,
            self._folded(found[0]),
            self._decay(found[1]),
            damaged,
            newer,
            {},
            identities,
            attributes=attributes,
            untold=untold,
            users=users,
        )
        return reading, values[len(user_ids) : end]

    def foreign_users(self, user_ids: Sequence[str]) -> dict[str, None]:
        """Those of these users whose key is of a type that no state has; reading them says that they are new."""
        pipe = self._redis.pipeline(transaction=False)
        for user in user_ids:
            pipe.type(f"{self.prefix}u:{user}")
        with self._answering():
            found = pipe.execute()
        return {user: None for user, kind in zip(user_ids, found, strict=True) if kind not in (b"string", b"none")}

    def mend_users(self, damaged: Mapping[str, bytes | None], states: Mapping[str, UserState]) -> int:
        """Write states in the place of what is none, where it is still there.

        Parameters
            damaged: as in a Reading.
            states: what to write; the key of a user without one is removed.

        Returns
            How many were written or removed.
        """
        arguments: list[str | bytes] = []
        for user, held in damaged.items():
            arguments += ("1" if held is None else "0", held or b"")
            arguments.append(encode(states[user]) if user in states else b"")
        with self._answering():
            return cast(int, self._mend([f"{self.prefix}u:{user}" for user in damaged], arguments))

    def marks(self) -> dict[int, int]:
        """Events partition -> offset of the newest record folded."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(f"{self.prefix}marks")
        return self._folded(self._executed(pipe)[0])

    def mend_marks(self, known: Mapping[int, int], filled: Collection[int] | None = None) -> list[str]:
        """Put marks in the place of what is none.

        Parameters
            known: partition -> a mark that it has surely had; what was folded since then is folded again, and found to
                be known.
            filled: the partitions that have ever held a record. Of another one nothing can have been folded, and what
                stands there is taken away. None: not known, so it may be any.

        Returns
            What was found there, as text; nothing when all is well.

        Raises
            StoreDamaged: it is not known what to write.
        """
        key = f"{self.prefix}marks"
        odd: list[str] = []

        def mend(pipe: Any) -> None:
            odd.clear()
            if pipe.type(key) not in (b"hash", b"none"):
                odd.append(f"{key}, a {pipe.type(key).decode()}")
                if not known:
                    raise self._damaged("marks", odd[0], MARKS)
                pipe.multi()
                pipe.delete(key)
                pipe.hset(key, mapping={str(partition): mark for partition, mark in known.items()})
                return
            found = {name: value for name, value in pipe.hgetall(key).items() if not _is_mark(name, value)}
            odd.extend(f"{key} {name!r:.40}: {value!r:.40}" for name, value in found.items())
            pipe.multi()
            for name, value in found.items():
                if not _is_number(name) or (filled is not None and int(name) not in filled):
                    pipe.hdel(key, name)
                elif int(name) in known:
                    pipe.hset(key, name, str(known[int(name)]))
                else:
                    raise self._damaged("marks", {name: value}, MARKS)

        with self._answering():
            self._redis.transaction(mend, key)
        return odd

    def _folded(self, found: Any) -> dict[int, int]:
        odd = found if isinstance(found, Exception) else {n: v for n, v in found.items() if not _is_mark(n, v)}
        if odd:
            raise self._damaged("marks", odd, MARKS)
        return _integers(found)

    def _decay(self, landmark: Any) -> Decay | None:
        """Raises StoreDamaged."""
        try:
            return None if landmark is None else _decay(landmark)
        except (AttributeError, ValueError) as error:  # of another type it is an error of Redis and no bytes
            raise self._damaged("landmark", landmark, "the ms of the first event and of the half-life") from error

    def _damaged(self, key: str, held: object, wanted: str) -> StoreDamaged:
        told = str(held) if isinstance(held, Exception) else repr(held)
        whose = f"that begin with {self.prefix!r}" if self.prefix else "of this database"
        mends = "A streams worker that starts sets marks to what its group has committed, if anything. Else restore"
        return StoreDamaged(
            f"redis key {self.prefix}{key} at {self.address} holds {told:.120}, not {wanted}: nobody can tell what is "
            "in the features",
            f"{mends if key == 'marks' else 'Restore'} the store from a backup; or delete all keys {whose} and start "
            "the streams workers again: what the log still holds is folded anew.",
        )

    def _executed(self, pipe: Any) -> list[Any]:
        """Replies, with the error in the place of those that ask a key of another type. Raises as all methods do."""
        with self._answering():
            found: list[Any] = pipe.execute(raise_on_error=False)
            for reply in found:
                if isinstance(reply, Exception) and not _is_wrong_type(reply):
                    raise reply
        return found

    def marks_of(self, topic: Topic) -> dict[int, int]:
        """Partition -> offset of the newest record of a topic whose effect is here."""
        if topic is EVENTS:
            return self.marks()
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(f"{self.prefix}{OTHER_MARKS.get(topic.name, 'marks:dead')}")
        reply = self._executed(pipe)[0]
        found = {} if isinstance(reply, Exception) else cast(dict[bytes, bytes], reply)  # its script begins anew
        if topic.name in OTHER_MARKS:
            return _integers(found)
        letters = f"{topic_name(topic, self.prefix)}/".encode()
        offsets = {name: offset.partition(b":")[0] for name, offset in found.items() if name.startswith(letters)}
        return _integers({name.removeprefix(letters): offset for name, offset in offsets.items()})

    def forget_marks(self, topic: Topic, partitions: Sequence[int]) -> None:
        """Take the effects of these partitions of another topic than `events` for those of another log."""
        name = OTHER_MARKS.get(topic.name, "marks:dead")
        head = "" if topic.name in OTHER_MARKS else f"{topic_name(topic, self.prefix)}/"
        with self._answering():
            self._redis.hdel(f"{self.prefix}{name}", *(f"{head}{partition}" for partition in partitions))

    def forget_command(self, partitions: Sequence[int]) -> str:
        """What to type to make the store forget the marks of these partitions, so that they are folded anew."""
        return f"redis-cli -u {self.address} HDEL {self.prefix}marks {' '.join(map(str, partitions))}"

    def apply(self, batch: Batch) -> Verdict:
        """Write one batch atomically, if nothing that it was made from has changed.

        Returns
            `applied`; or `marks`, `users` or `landmark`, whichever has changed, and nothing is written.
        """
        prefix = self.prefix
        keys = [f"{prefix}marks", f"{prefix}landmark", f"{prefix}popular"]
        keys += [f"{prefix}u:{user}" for user in batch.after]
        keys += [f"{prefix}totals", *(f"{prefix}i:{item}" for item in batch.items)]
        arguments: list[Any] = [len(batch.marks), len(batch.after), len(batch.items) + 1, _landmark(batch.decay)]
        for partition, (expected, new) in batch.marks.items():
            arguments += (partition, "" if expected is None else expected, new)
        for user, state in batch.after.items():
            arguments += (batch.before.get(user, EMPTY).count, encode(state))
        totals = ItemStatistics()
        for statistics in batch.items.values():
            totals.count(statistics)
        for item, statistics in (("", totals), *batch.items.items()):
            arguments += (item, _log2(statistics.log2_sum), _log2(statistics.log2_taken))
            counts = _fields(statistics)
            arguments += (len(counts), *(part for one in counts.items() for part in one))
        with self._answering():
            reply = cast("bytes | list[bytes]", self._apply(keys, arguments))
        if isinstance(reply, bytes):
            return cast(Verdict, reply.decode())
        for key in dict.fromkeys(reply[1:]):
            self._on_damage(key.decode())
        return cast(Verdict, reply[0].decode())

    def popular(self, n: int, now_ms: int) -> list[tuple[str, float]]:
        """The `n` items of most decayed weight, best first, each with its weight at `now_ms`."""
        ranked, decay, _ = self.popularity(n)
        return [] if decay is None else [(item, decay.weight_at(log2_sum, now_ms)) for item, log2_sum in ranked]

    def popularity(self, n: int) -> tuple[list[tuple[str, float]], Decay | None, dict[int, int]]:
        """The items of most decayed weight, the decay and the marks, all of one moment.

        Parameters
            n: how many items.

        Returns
            Item id and log2 of its weight, best first; the decay, None before any event; events partition -> newest
            offset.
        """
        pipe = self._redis.pipeline(transaction=True)
        pipe.get(f"{self.prefix}landmark")
        pipe.zrevrange(f"{self.prefix}popular", 0, n - 1, withscores=True)
        pipe.hgetall(f"{self.prefix}marks")
        landmark, ranked, marks = self._executed(pipe)
        items = [] if isinstance(ranked, Exception) else [(item.decode(), float(log2_sum)) for item, log2_sum in ranked]
        return items, self._decay(landmark), self._folded(marks)

    def item_statistics(self, item_ids: Sequence[str]) -> list[ItemStatistics]:
        """Statistics of these items, in their order: counts by type and by meaning, and the decayed weight."""
        return self._statistics([f"{self.prefix}i:{item}" for item in item_ids])

    def totals(self) -> ItemStatistics:
        """Counts by type and by meaning of all items together, the mean that `positive_rate` draws to."""
        return self._statistics([f"{self.prefix}totals"])[0]

    def _statistics(self, keys: Sequence[str]) -> list[ItemStatistics]:
        pipe = self._redis.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(key)
        return [_statistics({} if isinstance(fields, Exception) else fields) for fields in self._executed(pipe)]

    def put_items(self, entries: Mapping[str, bytes | None], partition: int, offset: int) -> bool:
        """Write catalogue entries.

        Parameters
            entries: JSON by item id; None removes the item.
            partition, offset: where in `items` the newest of them was read.

        Returns
            False when `offset` was written before, and nothing is.
        """
        return self._put(ITEMS, "item", entries, partition, offset)

    def put_attributes(self, attributes: Mapping[str, bytes | None], partition: int, offset: int) -> bool:
        """Write attributes of users, JSON by user id; None erases them. Otherwise as `put_items`, of `users`."""
        return self._put(USERS, "a", attributes, partition, offset)

    def forget_attributes(self, user_ids: Sequence[str]) -> None:
        """Remove what `Reading.untold` names."""
        with self._answering():
            self._redis.delete(*(f"{self.prefix}a:{one}" for one in user_ids))

    def _put(self, topic: Topic, kind: str, entries: Mapping[str, bytes | None], partition: int, offset: int) -> bool:
        marks = f"{self.prefix}{OTHER_MARKS[topic.name]}"
        keys = [marks, *(f"{self.prefix}{kind}:{one}" for one in entries)]
        with self._answering():
            reply = cast(int, self._items(keys, [partition, offset, *(value or b"" for value in entries.values())]))
        if reply < 0:
            self._on_damage(marks)
        return reply != 0

    def read_items(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """Catalogue JSON of these items, None where there is none."""
        if not item_ids:
            return []
        with self._answering():
            return cast(list[bytes | None], self._redis.mget([f"{self.prefix}item:{item}" for item in item_ids]))

    def put_links(self, rows: Sequence[IdentityRow], partition: int, offset: int, expected: int | None) -> bool:
        """Write what was told of ids that are one person. Of two words on the same two ids the newest by event time
        counts, then by place in the log: so in any order, and as often as they come.

        Parameters
            rows: of one partition of `identities`.
            partition, offset: of the newest record that is done with.
            expected: the mark that the partition is known to have had.

        Returns
            False when the store has less than that, or held what no links are: the topic is to be read again, from
            `marks_of`.
        """
        keys, arguments = [f"{self.prefix}marks:identities"], [partition, "" if expected is None else expected, offset]
        numbers: dict[str, int] = {}
        words: list[Any] = []
        for row in rows:
            for one in (row.user_id, row.was):
                if one not in numbers:
                    keys.append(f"{self.prefix}w:{one}")
                    numbers[one] = len(keys)
            word = Link(row.time_ms, row.offset, row.partition, int(row.linked))
            words += (numbers[row.user_id], numbers[row.was], row.user_id, row.was, " ".join(map(str, word)))
        with self._answering():
            reply = cast("bytes | list[bytes]", self._links(keys, [*arguments, MOST_LINKS, *words]))
        for key in reply[1:] if isinstance(reply, list) else ():
            self._on_damage(key.decode())
        return reply == b"written"

    def forget_links(self, ids: Sequence[str]) -> None:
        """Take away what these keys hold, and the marks of `identities`: the topic is read again from its beginning."""
        with self._answering():
            self._redis.delete(*(f"{self.prefix}w:{one}" for one in ids), f"{self.prefix}marks:identities")

    def read_links(self, ids: Sequence[str]) -> list[Links]:
        """What was told of these ids, in their order; of one whose key holds something else, nothing."""
        found = []
        with self._answering():
            values = cast("list[bytes | None]", self._redis.mget([f"{self.prefix}w:{one}" for one in ids]))
        for value in values:
            try:
                found.append(decode_links(value))
            except InvalidMessage:
                found.append(ALONE)
        return found

    def count_dead_letters(self, letters: Iterable[tuple[str, str, int, int]]) -> int:
        """Count each refused message once.

        Parameters
            letters: (reason, source `topic/partition`, offset, index) of each.

        Returns
            How many were new.
        """
        arguments = [part for letter in letters for part in letter]
        with self._answering():
            return cast(int, self._dead([f"{self.prefix}dead", f"{self.prefix}marks:dead"], arguments))

    def dead_letters(self) -> dict[str, int]:
        """Reason -> dead letters counted."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(f"{self.prefix}dead")
        reply = self._executed(pipe)[0]
        found = {} if isinstance(reply, Exception) else cast(dict[bytes, bytes], reply)  # its script begins anew
        return {reason.decode(): int(count) for reason, count in found.items() if _is_number(count)}

    def ids(self, kind: Literal["u", "w", "i", "item"]) -> Iterator[str]:
        """Every user (`u`), id with links (`w`), item with statistics (`i`) or item of the catalogue (`item`) under the
        prefix, in no order.
        """
        start = f"{self.prefix}{kind}:"
        escaped = "".join(f"\\{char}" if char in "*?[]\\" else char for char in start)
        with self._answering():
            for key in self._redis.scan_iter(f"{escaped}*", count=1000):
                yield key.decode().removeprefix(start)


def _broken_tls(error: BaseException) -> Exception | None:
    """Why TLS cannot come about, at the root of redis-py's error: a certificate, a file of ours, a plain port."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, (ssl.SSLError, FileNotFoundError, PermissionError)):
            return None if isinstance(at, ssl.SSLEOFError) else at  # the server ended meanwhile
        at = at.__cause__ or at.__context__
    return None


def _refused(address: str, error: Exception) -> AccessDenied:
    reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
    if reason.startswith("HELLO must be called"):  # redis-py's first word to a server that wants a password, in RESP3
        reason = "NOAUTH: it wants a password"
    if isinstance(error, OSError):
        remedy = (
            "Name the authority that signed its certificate (?ssl_ca_certs=FILE at the end of HEADWATER_REDIS__URL) "
            "and a host that is in it; where it speaks no TLS, redis:// instead of rediss://."
        )
    elif isinstance(error, redis.exceptions.NoPermissionError):
        remedy = "Allow that user these keys and commands (ACL SETUSER), or name another in HEADWATER_REDIS__URL."
    else:
        remedy = "Correct user and password in HEADWATER_REDIS__URL: redis://user:password@host:port/db."
    return AccessDenied(f"Redis at {address} refuses us ({reason}). {remedy}")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="").geturl()


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) < 19


def _is_mark(partition: bytes, offset: bytes) -> bool:
    return _is_number(partition) and _is_number(offset)


def _is_wrong_type(reply: Exception) -> bool:
    return isinstance(reply, redis.ResponseError) and "WRONGTYPE" in str(reply)


def _integers(found: Mapping[bytes, bytes]) -> dict[int, int]:
    """What is no mark is left out."""
    return {int(name): int(value) for name, value in found.items() if _is_mark(name, value)}


def _number(text: bytes, otherwise: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return otherwise
    return number if math.isfinite(number) else otherwise


def _landmark(decay: Decay | None) -> str:
    return "" if decay is None else f"{decay.landmark_ms} {decay.half_life_ms!r}"


def _decay(landmark: bytes) -> Decay:
    since, half_life = landmark.decode().split()
    decay = Decay(int(since), float(half_life))
    if not 0 < decay.half_life_ms < math.inf:
        raise ValueError(half_life)
    return decay


def _log2(weight: float) -> str:
    return "" if weight == -math.inf else repr(weight)


def _fields(statistics: ItemStatistics) -> dict[str, int]:
    """What the hash of an item counts: by type, and by meaning."""
    counts = {f"n:{name}": count for name, count in statistics.counts.items() if count}
    meant = (
        ("m:positive", statistics.positive),
        ("m:negative", statistics.negative),
        ("m:exposure", statistics.exposures),
    )
    return counts | {name: count for name, count in meant if count}


def _statistics(fields: Mapping[bytes, bytes]) -> ItemStatistics:
    counts = {name.decode(): int(value) for name, value in fields.items() if name[1:2] == b":" and _is_number(value)}
    return ItemStatistics(
        {name[2:]: count for name, count in counts.items() if name[0] == "n"},
        _number(fields.get(b"log2", b""), -math.inf),
        *(counts.get(name, 0) for name in ("m:positive", "m:negative", "m:exposure")),
    )


def _attributes(
    user_ids: Sequence[str], values: Sequence[bytes | None]
) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Of each user, where any were told; and whose key holds what none are."""
    told: dict[str, Mapping[str, Any]] = {}
    untold = []
    for user, value in zip(user_ids, values, strict=True):
        if value is not None:
            try:
                told[user] = checked_attributes(orjson.loads(value))
            except ValueError:
                untold.append(user)
    return told, untold
