"""What pseudonyms and keys of the users' own cost: an event of a Client, and one in the streams worker's own code."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.folding import EVENTS, RECORD, made, seconds
from benchmarks.ruler import Bar, Beside, Row, Setup, in_turns
from benchmarks.ruler.worlds import broker
from headwater import Client, Event
from headwater.kafka import ensure_topics
from headwater.privacy.master_key import LocalMasterKey
from headwater.privacy.pseudonyms import Pseudonyms, read_keys
from headwater.privacy.user_keys import make_user_keys
from headwater.settings import Settings, load_settings
from headwater.wire import encode_packed
from streams.features.fold import Limits

AS_THEY_ARE = "ids as they are"
MOST = 1.2
USERS = 5_000
OWN = "keys of their own"
MASTER = "3" * 64
KEYS = [f"k{number} {str(number) * 64}\n" for number in (1, 2)]


def measured(setup: Setup) -> Iterator[Row]:
    """By processor time of the one process, all threads; the same events in turns."""
    count = setup.pick(100_000, 500)
    with broker(setup) as address, TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], float]] = {}
        for name, privacy in _privacy(Path(folder) / "users.keys").items():
            settings = load_settings(
                kafka={"bootstrap": address, "prefix": f"{name.replace(' ', '-')}."}, privacy=privacy
            )
            ensure_topics(settings.kafka)
            parts[name] = _sending(settings, count)
        found = in_turns(setup.turns, parts)
    for name in ("a key", "two keys", OWN):
        yield _row(
            f"an event of a Client, {name}",
            found[name],
            found[AS_THEY_ARE],
            f"{count:,} events, {USERS:,} users that it has met",
        )
    pseudonyms = Pseudonyms(read_keys(KEYS[0], "the bench"))
    raw = made("clicks", random.Random(7))
    named = [one.model_copy(update={"user_id": pseudonyms.of(one.user_id)}) for one in raw]
    streams = {AS_THEY_ARE: _packed(raw), "a key": _packed(named)}
    limits = Limits()
    found = in_turns(
        setup.turns,
        {name: lambda some=some: seconds(some, limits) / EVENTS * 1e6 for name, some in streams.items()},  # type: ignore[misc]
    )
    yield _row("an event read, folded and packed", found["a key"], found[AS_THEY_ARE], f"records of {RECORD}")


def _privacy(file: Path) -> dict[str, dict[str, str]]:
    make_user_keys(file, LocalMasterKey(bytes.fromhex(MASTER)))
    own = {"user_keys_file": str(file), "master_key": MASTER}
    return {
        AS_THEY_ARE: {},
        "a key": {"pseudonym_keys": KEYS[0]},
        "two keys": {"pseudonym_keys": "".join(KEYS)},
        OWN: own,
    }


def _row(name: str, ours: list[float], bare: list[float], note: str) -> Row:
    bar = Bar(MOST, against=AS_THEY_ARE)
    return Row(name, "us of processor time an event", "less", ours, [Beside(AS_THEY_ARE, "own", bare)], [bar], note)


def _packed(events: list[Event]) -> list[bytes]:
    return [encode_packed(events[at : at + RECORD]) for at in range(0, len(events), RECORD)]


def _sending(settings: Settings, count: int) -> Callable[[], float]:
    """Sends events of users of whom each has been met before; microseconds of each event."""

    def sent() -> float:
        chance = random.Random(7)
        users = [f"user-{number}" for number in range(USERS)]
        told = [{"user_id": chance.choice(users), "item_id": f"item-{n % 5000}", "type": "click"} for n in range(count)]
        with Client(settings=settings) as client:
            client.track_many({**told[0], "user_id": user} for user in users).result()
            client.flush()
            began = time.process_time()
            client.track_many(told).result()
            return (time.process_time() - began) / count * 1e6

    return sent
