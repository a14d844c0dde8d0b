"""What all parts of the store go by: the server, the slots, and the marks in them.

Before: `server` and `slots`. After: the parts that read and write features.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from headwater.errors import HeadwaterError, SettingsError, StoreDamaged, Unavailable
from headwater.settings import PrivacySettings, RedisSettings
from headwater.topics import DEAD_LETTERS, EVENTS, IDENTITIES, USERS, Topic, topic_name
from streams.features.decay import Decay
from streams.features.store.sealing import StoreSeal
from streams.features.store.server import Script, StoreCall, StoreServer
from streams.features.store.slots import MARKS, SEALING, Slots
from streams.features.store.standing import StoreStanding
from streams.features.store.values import decay_of, integers, is_mark, is_number, landmark_text, pairs

__all__ = ["MarkedStore", "Whole"]

ONCE, RECORD, RIGHTS = Script("once"), Script("record"), Script("rights")
HASHES, KEEP_SEALING = Script("counted"), Script("sealing")
SHARDS = "shards"
FRESH_S = 1.0
"""How old what is known of the store as a whole may be where users are read."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What is known of all slots: low-water marks and recorded marks by topic, and the decay, of one moment before."""

    low: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    recorded: Mapping[str, Mapping[int, Mapping[int, int]]] = field(default_factory=dict)
    decay: Decay | None = None


class MarkedStore:
    """The store as far as servers, slots and marks go. Thread-safe, as redis-py's client is.

    Parameters
        settings: URL, time-out, number of slots.
        prefix: of all keys.
        on_damage: told of each key that held what nobody wrote and begins anew.
        privacy: whether what is kept of people is sealed, and by which master key; None: what is sealed is not read.

    Raises
        StoreDamaged: marks or landmark hold what nobody wrote.
        Unavailable: here for a URL that is none; from every method when a server does not answer. It names the URL
            without its password.
        AccessDenied: from every method when a server does not let us in: no waiting mends that.
        SettingsError: from every method when the store was made with another number of slots; from those that write,
            and from `check`, when what is sealed, or is to be, has no master key or another one.
        HeadwaterError: from every method when a server refuses a command.
    """

    def __init__(
        self,
        settings: RedisSettings,
        prefix: str = "",
        on_damage: Callable[[str], None] = lambda _key: None,
        privacy: PrivacySettings | None = None,
    ) -> None:
        self.prefix = prefix
        self.slots = Slots(prefix, settings.shards)
        self._seal = StoreSeal(privacy or PrivacySettings(), self._sealing_kept)
        self._on_damage = on_damage
        self._server = StoreServer(settings, self._check_shards)
        self._whole: Whole | None = None
        self._whole_until = 0.0
        self._whole_lock = threading.Lock()

    @property
    def address(self) -> str:
        """Where the server is, without its password."""
        return self._server.address

    def close(self) -> None:
        """Close all connections."""
        self._server.close()

    def ping(self) -> str:
        """The server's name and version, as `valkey 9.1.2` or `redis 7.0.15`; of a cluster that, too."""
        info = cast(dict[str, Any], self._server.command("INFO", "server")[0])
        name = info.get("server_name", "redis")
        version = f"{name} {info.get(f'{name}_version', info['redis_version'])}"
        return f"{version} cluster" if self._server.is_cluster else version

    def time_s(self) -> float:
        """The server's clock, seconds since 1970."""
        seconds, microseconds = self._server.command("TIME")[0]
        return float(seconds + microseconds / 1e6)

    def evicts(self) -> str | None:
        """The policy by which a server throws keys away when it is full, if it may."""
        nodes = cast(list[dict[str, Any]], self._server.command("INFO", "memory"))
        policies = {str(memory.get("maxmemory_policy", "noeviction")) for memory in nodes} - {"noeviction"}
        return min(policies, default=None)

    def check(self) -> None:
        """Look that the server is there, that the store is of as many slots as the settings say, that this user may
        read it, that no restore is under way, and that what is sealed can be read."""
        self._server.check()
        self._require_rights("read")
        self.refuse_torn()
        self._seal.begin()

    def claim(self) -> None:
        """Make this a store of as many slots as the settings say, unless it is one of another number: before anything
        is written. Raises SettingsError, AccessDenied where this user may not run every command, and HeadwaterError
        where a restore is under way.
        """
        self._require_rights("write")
        self.refuse_torn()
        self._are_ours(self._server.run([StoreCall(ONCE, [self.prefix + SHARDS], [self.slots.count])])[0])
        self._seal.begin()

    def _sealing_kept(self, slot: int | None) -> dict[bytes, bytes]:
        """What wraps the keys of users, by id, of one slot or of all whose node answers."""
        keys = [self.slots.key(one, SEALING) for one in (self.slots.all if slot is None else (slot,))]
        found: dict[bytes, bytes] = {}
        for reply in self._server.run_partly([StoreCall(HASHES, [key]) for key in keys]):
            if not isinstance(reply, Exception) and not isinstance(reply[0], Exception):
                found |= pairs(reply[0])
        return found

    def _sealing_calls(self, slots: Iterable[int]) -> list[StoreCall]:
        """What has to run before anything sealed is written to these slots: of one that is lost this is, too."""
        if not self._seal.seals:
            return []
        return [StoreCall(KEEP_SEALING, [self.slots.key(slot, SEALING)], self._seal.newest()) for slot in slots]

    def _keys_of(self, kind: str) -> Iterator[str]:
        """All keys of a kind, in no order."""
        keys = (key.decode() for key in self._server.keys(self.slots.pattern(kind)))
        return (key for key in keys if self.slots.is_of(key, kind))

    def tell_restoring(self, told: str | None) -> None:
        """Let no worker start on what is half there; None: all of it is. A restore that was killed leaves this."""
        self._server.run([StoreCall("DEL", [self._restoring]) if told is None else
                          StoreCall("SET", [self._restoring], [told])])  # fmt: skip

    def restoring(self) -> str | None:
        """The name of the backup that a restore was begun of that has not ended."""
        found = self._server.run([StoreCall("GET", [self._restoring])], may_be_odd=True)[0]
        return found.decode(errors="replace") if isinstance(found, bytes) else None

    def clearing(self) -> str | None:
        """The number of the slot whose keys somebody began to take away and has not ended with, and nothing for all."""
        found = self._server.run([StoreCall("GET", [self._clearing])], may_be_odd=True)[0]
        return found.decode(errors="replace") if isinstance(found, bytes) else None

    def refuse_restoring(self) -> None:
        """Raises HeadwaterError where one is under way."""
        if (backup := self.restoring()) is not None:
            raise HeadwaterError(
                f"a restore of backup {backup:.100} into the store at {self.address} is under way, or was killed: "
                f"what is there is not whole. Wait until `headwater restore` has ended; where none runs, run it again, "
                f"--clear --name {backup:.100}; or, to give it up, delete all keys {self._whose}. Then start this again"
            )

    def refuse_torn(self) -> None:
        """The same, and where keys are being taken away, before a rebuild say, or that was cut short."""
        self.refuse_restoring()
        if self.clearing() is not None:
            raise HeadwaterError(
                f"the store at {self.address} is being emptied, or that was cut short: what is there is not whole. "
                "Wait until `headwater rebuild features` has ended; where none runs, run it again. Then start this "
                "again"
            )

    @property
    def _restoring(self) -> str:
        return self.slots.home("restoring")

    @property
    def _clearing(self) -> str:
        return self.slots.home("clearing")

    def _require_rights(self, kind: str) -> None:
        """Before a script that is refused a command takes the key for a damaged one, and begins it anew."""
        refused = self._server.run([StoreCall(RIGHTS, [self.slots.home("rights")], [kind])])[0]
        if refused:
            names = ", ".join(sorted({one.decode() for one in refused}))
            raise self._server.denied(f"it may not run {names} on keys {self.prefix}*")

    def _check_shards(self) -> None:
        """Before anything is read. A store of one slot may be of a release that did not say so."""
        said, marks, landmark = self._server.run(
            [
                StoreCall("GET", [self.prefix + SHARDS]),
                StoreCall("EXISTS", [self.prefix + MARKS[EVENTS.name]]),
                StoreCall("EXISTS", [self.prefix + "landmark"]),
            ],
            may_be_odd=True,
        )
        if said is None and (marks or landmark):
            said = b"1"
        self._are_ours(said)

    def _are_ours(self, made: object) -> None:
        if made is None or made == str(self.slots.count).encode():
            return
        count = made.decode(errors="replace") if isinstance(made, bytes) else str(made)
        raise SettingsError(
            f"redis.shards is {self.slots.count}, and the store at {self.address} was made with {count:.40}: its keys "
            f"lie elsewhere. Set HEADWATER_REDIS__SHARDS={count:.40}; or, for another number, stop the workers, delete "
            f"all keys {self._whose}, and start them again: what the log still holds is folded anew."
        )

    @property
    def _whose(self) -> str:
        return f"that begin with {self.prefix!r}" if self.prefix else "of this database"

    def standing(self, topic: Topic) -> StoreStanding:
        """Where a topic's effects stand in every slot, fresh from there.

        Raises
            StoreDamaged: marks of `events` are none.
        """
        low: dict[int, int] = {}
        recorded: dict[int, dict[int, int]] = {}
        if self.slots.count > 1:  # before the slots' own: these only rise, so none seems to have lost what it has
            low, recorded = self._recorded([topic])[topic.name]
        own = self._server.run([StoreCall("HGETALL", [self.slots.marks(slot, topic)]) for slot in self.slots.all],
                               may_be_odd=True)  # fmt: skip
        marks = {slot: self._marks_in(slot, topic, found) for slot, found in enumerate(own)}
        return StoreStanding(marks, low if self.slots.count > 1 else None, recorded)

    def _recorded(self, topics: Sequence[Topic]) -> dict[str, tuple[dict[int, int], dict[int, dict[int, int]]]]:
        keys = [key for topic in topics for key in self._record_keys(topic)]
        replies = self._server.run([StoreCall("HGETALL", [key]) for key in keys], may_be_odd=True)
        found = {}
        for topic, low, marks in zip(topics, replies[::2], replies[1::2], strict=True):
            slots: dict[int, dict[int, int]] = {}
            for name, offset in {} if isinstance(marks, Exception) else marks.items():
                slot, _, partition = name.partition(b":")
                if is_mark(slot, offset) and is_number(partition):
                    slots.setdefault(int(slot), {})[int(partition)] = int(offset)
            found[topic.name] = ({} if isinstance(low, Exception) else integers(low), slots)
        return found

    def _record_keys(self, topic: Topic) -> list[str]:
        name = MARKS[topic.name]
        return [self.slots.home(name), self.slots.home(f"slots:{name}")]

    def _marks_in(self, slot: int, topic: Topic, found: Any) -> dict[int, int]:
        if topic is EVENTS:
            return self._folded(found, self.slots.marks(slot, topic))
        return {} if isinstance(found, Exception) else integers(found)  # the script that writes them begins anew

    def record(
        self, topic: Topic, low: Mapping[int, tuple[int | None, int]], own: Mapping[int, Mapping[int, int]]
    ) -> bool:
        """Record that every slot holds all up to these offsets, and which own marks slots have by now. Never lowers
        what is recorded. With one slot its own marks say it all.

        Parameters
            low: partition -> (the low-water mark that was left there, or None; the one to record).
            own: slot -> partition -> offset.

        Returns
            False when less is recorded than was left there: then nothing is written, and the topic is to be read again
            from where the store is.
        """
        if self.slots.count == 1 or not low:
            return True
        arguments: list[Any] = [len(low)]
        for partition, (least, offset) in low.items():
            arguments += (partition, "" if least is None else least, offset)
        for slot, marks in own.items():
            for partition, offset in marks.items():
                arguments += (f"{slot}:{partition}", offset)
        return bool(self._server.run([StoreCall(RECORD, self._record_keys(topic), arguments)])[0] == b"recorded")

    def whole(self, *, fresh: bool = False) -> Whole:
        """What is known of all slots, at most a second old. Known before the slots are read, it says no more of them
        than they hold.
        """
        with self._whole_lock:
            if self._whole is None or fresh or time.monotonic() >= self._whole_until:
                self._whole_until = time.monotonic() + FRESH_S
                self._whole = self._read_whole()
            return self._whole

    def whole_or_older(self) -> Whole:
        """The same; where the node that keeps it is away, what was known before: that says less, and nothing wrong.
        Raises Unavailable where nothing was.
        """
        try:
            return self.whole()
        except Unavailable:
            if self._whole is None:
                raise
            return self._whole

    def _read_whole(self) -> Whole:
        if self.slots.count == 1:
            return Whole()
        found = self._recorded([EVENTS, IDENTITIES, USERS])
        return Whole(
            {name: low for name, (low, _) in found.items()},
            {name: recorded for name, (_, recorded) in found.items()},
            self._landmark(),
        )

    def _landmark(self) -> Decay | None:
        """That of all slots; where the node that kept it lost it, that of any slot."""
        keys = [self.slots.home("landmark")]
        if self.slots.count > 1:
            keys += [self.slots.key(slot, "landmark") for slot in self.slots.all]
        held = self._server.run([StoreCall("GET", [key]) for key in keys[:1]], may_be_odd=True)
        if held[0] is None:
            held += self._server.run([StoreCall("GET", [key]) for key in keys[1:]], may_be_odd=True)
        found = (self._decay(one, key) for one, key in zip(held, keys, strict=False))
        return next((decay for decay in found if decay is not None), None)

    def _agree(self, decay: Decay) -> bool:
        """Whether all slots weigh by this decay; the first that is asked about is that of all."""
        if self._whole is not None and self._whole.decay == decay:
            return True
        text = landmark_text(self._landmark() or decay)
        held = self._server.run([StoreCall(ONCE, [self.slots.home("landmark")], [text])])[0]
        self._whole = None
        return bool(held == landmark_text(decay).encode())

    def marks(self) -> dict[int, int]:
        """Events partition -> offset up to which everything is folded."""
        return self.standing(EVENTS).marks()

    def marks_of(self, topic: Topic) -> dict[int, int]:
        """Partition -> offset up to which every record of a topic has its effect here."""
        if topic is not DEAD_LETTERS:
            return self.standing(topic).marks()
        reply = self._server.run([StoreCall("HGETALL", [self.slots.home("marks:dead")])], may_be_odd=True)[0]
        found = {} if isinstance(reply, Exception) else cast(dict[bytes, bytes], reply)  # its script begins anew
        letters = f"{topic_name(topic, self.prefix)}/".encode()
        offsets = {name: offset.partition(b":")[0] for name, offset in found.items() if name.startswith(letters)}
        return integers({name.removeprefix(letters): offset for name, offset in offsets.items()})

    def marks_and_highest(self, topic: Topic) -> tuple[dict[int, int], dict[int, int]]:
        """`marks_of`, and partition -> the newest offset of a topic that has any effect here."""
        if topic is DEAD_LETTERS:
            marks = self.marks_of(topic)
            return marks, marks
        standing = self.standing(topic)
        return standing.marks(), standing.highest()

    def forget_marks(self, topic: Topic, partitions: Sequence[int]) -> None:
        """Take the effects of these partitions of a topic for those of another log, which of events
        the store remembers."""
        if topic is EVENTS and partitions:
            self._server.run([StoreCall("SET", [self._earlier], [",".join(map(str, sorted(partitions)))])])
        if topic is DEAD_LETTERS:
            head = f"{topic_name(topic, self.prefix)}/"
            self._server.run(
                [StoreCall("HDEL", [self.slots.home("marks:dead")], [f"{head}{one}" for one in partitions])]
            )
            return
        if self.slots.count > 1:
            low, recorded = self._record_keys(topic)
            of_slots = [f"{slot}:{one}" for slot in self.slots.all for one in partitions]
            self._server.run([StoreCall("HDEL", [low], partitions), StoreCall("HDEL", [recorded], of_slots)])
        self._server.run([StoreCall("HDEL", [self.slots.marks(slot, topic)], partitions) for slot in self.slots.all])

    def knows_earlier_log(self) -> bool:
        """Whether users may have events of a log that was before the one that is there."""
        return bool(self._server.run([StoreCall("EXISTS", [self._earlier])])[0])

    @property
    def _earlier(self) -> str:
        return self.slots.home("earlier-log")

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
        every = [StoreCall("HGETALL", [self.slots.marks(slot, EVENTS)]) for slot in self.slots.all]
        found = self._server.run(every, may_be_odd=True)
        odd = [slot for slot, marks in enumerate(found) if isinstance(marks, Exception) or _odd(marks)]
        return [told for slot in odd for told in self._mend_marks(slot, known, filled)]

    def _mend_marks(self, slot: int, known: Mapping[int, int], filled: Collection[int] | None) -> list[str]:
        key = self.slots.marks(slot, EVENTS)
        odd: list[str] = []

        def mend(pipe: Any) -> None:
            odd.clear()
            kind = pipe.type(key)
            if kind not in (b"hash", b"none"):
                odd.append(f"{key}, a {kind.decode()}")
                if not known:
                    raise self._marks_damaged(key, odd[0])
                pipe.multi()
                pipe.delete(key)
                pipe.hset(key, mapping={str(partition): mark for partition, mark in known.items()})
                return
            found = _odd(pipe.hgetall(key))
            odd.extend(f"{key} {name!r:.40}: {value!r:.40}" for name, value in found.items())
            pipe.multi()
            for name, value in found.items():
                if not is_number(name) or (filled is not None and int(name) not in filled):
                    pipe.hdel(key, name)
                elif int(name) in known:
                    pipe.hset(key, name, str(known[int(name)]))
                else:
                    raise self._marks_damaged(key, {name: value})

        self._server.transaction(mend, key)
        return odd

    def _folded(self, found: Any, key: str) -> dict[int, int]:
        odd = found if isinstance(found, Exception) else _odd(found)
        if odd:
            raise self._marks_damaged(key, odd)
        return integers(found)

    def _decay(self, landmark: Any, key: str) -> Decay | None:
        """Raises StoreDamaged."""
        try:
            return None if landmark is None else decay_of(landmark)
        except (AttributeError, ValueError) as error:  # of another type it is an error of Redis and no bytes
            wanted = "the ms of the first event and of the half-life"
            raise self._damaged(key, landmark, wanted, "Restore") from error

    def _marks_damaged(self, key: str, held: object) -> StoreDamaged:
        mends = "A streams worker that starts sets marks to what its group has committed, if anything. Else restore"
        return self._damaged(key, held, "offsets by partition", mends)

    def _damaged(self, key: str, held: object, wanted: str, mends: str) -> StoreDamaged:
        told = str(held) if isinstance(held, Exception) else repr(held)
        return StoreDamaged(
            f"redis key {key} at {self.address} holds {told:.120}, not {wanted}: nobody can tell what is in the "
            "features",
            f"{mends} the store from a backup; or delete all keys {self._whose} and start "
            "the streams workers again: what the log still holds is folded anew.",
        )

    def _tell_damage(self, keys: Iterable[bytes]) -> None:
        for key in dict.fromkeys(keys):
            self._on_damage(key.decode())


def _odd(marks: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What is no mark."""
    return {name: value for name, value in marks.items() if not is_mark(name, value)}
