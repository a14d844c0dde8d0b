"""What a user consents to under the name of before holds under the new one, too.

Before: `headwater pseudonyms link`. After: words on `consents`, as if the app had said them again. Links alone do not
do it: what is kept of an id goes by the word on that id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from console.look.cluster import is_missing
from headwater.errors import InvalidMessage
from headwater.kafka import read_topic
from headwater.kafka.sending import send_records
from headwater.privacy.consents import ConsentWord, read_consent
from headwater.settings import KafkaSettings
from headwater.topics import CONSENTS
from headwater.wire import encode

__all__ = ["carry_words"]


def carry_words(kafka: KafkaSettings, people: Iterable[Sequence[str]]) -> int:
    """Say of each user under the newest name what was said last under one of the others; how many words that were.

    Parameters
        people: what each user is called and was, newest first.

    Raises
        Unavailable: Kafka is away.
    """
    if is_missing(kafka, CONSENTS):
        return 0
    known = _words(kafka)
    words = list(_carried(known, people))
    send_records(kafka, CONSENTS, [(one.user_id.encode(), encode(one)) for one in words])
    return len(words)


def _words(kafka: KafkaSettings) -> dict[str, tuple[int, ConsentWord]]:
    """The newest word on each user, and when it was given."""
    known: dict[str, tuple[int, ConsentWord]] = {}
    for record in read_topic(kafka, CONSENTS):
        try:
            said = read_consent(record.key, record.value, f"{CONSENTS.name}[{record.partition}]@{record.offset}")
        except InvalidMessage:
            continue  # the streams worker makes it a dead letter
        if said is None:  # the user is forgotten, and so is the word
            known.pop((record.key or b"").decode(), None)
        else:
            known[said.user_id] = said.word(record.timestamp).time_ms, said
    return known


def _carried(known: dict[str, tuple[int, ConsentWord]], people: Iterable[Sequence[str]]) -> Iterator[ConsentWord]:
    for own, *before in people:
        said = max((known[one] for one in before if one in known), key=lambda one: one[0], default=None)
        if said is None or (own in known and known[own][0] >= said[0]):
            continue
        nowhere = {"user_id": own, "consent_time": said[0], "partition": None, "offset": None}
        yield said[1].model_copy(update=nowhere)
