"""Consent: for which purposes what a person does may be used. What an event, or a word on a person, says of it; and
what follows from both.

Before: an app, or its consent tool. After: `streams.features.fold` keeps and counts by it, `serving` answers by it.
Knows nothing of Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StrictBool

__all__ = ["ALL", "CONSENT", "PURPOSES", "Allowed", "Consent", "Said", "Word", "allowed", "latest", "next_word"]
__all__ += ["read_said", "strictest"]

CONSENT = "headwater.consent"
"""The type of the event from which on a log goes by another word of its user."""

PURPOSES = ("personalise", "train", "analyse")


class Consent(BaseModel):
    """By purpose, whether it is granted; nothing is said of one that is absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    personalise: StrictBool | None = Field(default=None, description="A history may be kept, and lists made from it.")
    train: StrictBool | None = Field(default=None, description="The model may learn from it; needs personalise.")
    analyse: StrictBool | None = Field(default=None, description="It may count in statistics of items.")

    @property
    def said(self) -> Said:
        """As the engine handles it."""
        return Said(self.personalise, self.train, self.analyse)


class Said(NamedTuple):
    """A Consent as the engine handles it: by purpose, granted, denied, or None where nothing is said."""

    personalise: bool | None = None
    train: bool | None = None
    analyse: bool | None = None


class Word(NamedTuple):
    """The word on a person that is in force.

    Fields
        said: by purpose.
        time_ms: when it was given, epoch ms.
        unsure_ms: what was done until then may not have been counted for items, epoch ms; -1 where all was.
    """

    said: Said
    time_ms: int
    unsure_ms: int = -1


class Allowed(NamedTuple):
    """What may be done, by purpose."""

    personalise: bool = True
    train: bool = True
    analyse: bool = True


ALL = Allowed()


@lru_cache(maxsize=4096)  # all there are: 27 words, as many events, 2 defaults
def allowed(word: Said | None, event: Said | None, unsaid: bool) -> Allowed:
    """What may be done with an event. What a person has denied stays denied, whatever an event says; else the event's
    own word counts, then the person's, then the world's default. Nobody trains on what may not be kept.

    Parameters
        word: on the person.
        event: what came with it.
        unsaid: whether that is granted of which nobody has said anything.

    >>> allowed(Said(personalise=False), Said(personalise=True), True)
    Allowed(personalise=False, train=False, analyse=True)
    >>> allowed(None, Said(analyse=True), False)
    Allowed(personalise=False, train=False, analyse=True)
    """
    found = []
    for of_person, of_event in zip(word or Said(), event or Said(), strict=True):
        if of_person is False:
            found.append(False)
        else:
            found.append(next((one for one in (of_event, of_person) if one is not None), unsaid))
    may = Allowed(found[0], found[0] and found[1], found[2])
    return ALL if may == ALL else may  # so that it can be told by its identity


def next_word(known: Word | None, said: Said, time_ms: int) -> Word | None:
    """The word from the place on at which a log says another; None: the known one stays. A denial of personalise counts
    whenever it was given; of other words the later.

    Parameters
        known: in force until there.
        said: at that place.
        time_ms: when that was given.

    >>> next_word(Word(Said(train=False), 9), Said(train=True), 5) is None
    True
    """
    if known is not None and said.personalise is not False and time_ms < known.time_ms:
        return None
    return Word(said, time_ms if known is None else max(time_ms, known.time_ms))


def strictest(words: Any) -> Word | None:
    """The word on a person of several ids: what was denied under one is denied, what was granted under one is granted.

    >>> strictest([None, Word(Said(train=False), 5), Word(Said(True, True), 9)])
    Word(said=Said(personalise=True, train=False, analyse=None), time_ms=9, unsure_ms=-1)
    """
    known = [one for one in words if one is not None]
    if not known:
        return None
    said = [
        False if False in one else True if True in one else None
        for one in zip(*(one.said for one in known), strict=True)
    ]
    return Word(Said(*said), max(one.time_ms for one in known))


def latest(words: Iterable[Word | None]) -> Word | None:
    """The one that was given last; of one time the first."""
    return max((one for one in words if one is not None), key=attrgetter("time_ms"), default=None)


def read_said(given: Any) -> Said | None:
    """What the field of an event says, the short way; None where `Consent` has to look at it."""
    if type(given) is not dict or not given.keys() <= _PURPOSES:
        return None
    said = Said(given.get("personalise"), given.get("train"), given.get("analyse"))
    return said if all(one is None or type(one) is bool for one in said) else None


_PURPOSES = frozenset(PURPOSES)
