"""The feature store: user states, item statistics, popularity, catalogue and marks in Redis or Valkey, single or
cluster.

Before: the streams worker writes one batch with `apply`. After: serving reads users and popularity, the console reads
counts. `server.py` is the only file that speaks Redis, and nothing here knows Kafka.

All that one user's events write lies in one slot of `redis.shards`, with the marks that say what is in it. A script
writes one slot, whole or not at all, and first compares marks, so running it twice (redis-py's retry, a redelivered
batch, a worker that lost its partition) changes nothing the second time. Works on Redis 7.0 and on Valkey.

Each part says which keys it has: `marked.py` the marks and the `landmark` of the decay, `users.py`, `statistics.py`,
`told.py`; `slots.py` says where they lie. docs/decisions/0018 has the proof.
"""

from streams.features.store.copies import Copied
from streams.features.store.known import KnownMarks
from streams.features.store.slots import Slots
from streams.features.store.standing import StoreStanding
from streams.features.store.store import FeatureStore
from streams.features.store.values import Batch, Reading, SlotMarks, Verdict, attributes_text
from streams.features.store.words import PlacedWord, going_by

__all__ = [
    "Batch", "Copied", "FeatureStore", "KnownMarks", "PlacedWord", "Reading", "SlotMarks", "Slots",
    "StoreStanding", "Verdict", "attributes_text", "going_by",
]  # fmt: skip
