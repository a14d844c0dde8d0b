"""What has to hold after a campaign, whatever was broken: each promise is one function that names how it was broken.

Before: a world that is quiet. After: the report. Judged from the topics, the store and the trainer's own files; of what
the campaign knows only which records were acknowledged, and how processes ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chaos.promises import (
    answers,
    consents,
    erasures,
    examples,
    features,
    front_door,
    learning,
    processes,
    published,
    records,
)
from chaos.promises.aftermath import Aftermath

__all__ = ["BEHAVED", "PROMISES", "Aftermath"]

BEHAVED = "processes end as they are told, and none hangs"

PROMISES: dict[str, Callable[[Aftermath], Iterator[str]]] = {
    "acknowledged records are kept": records.are_kept,
    "every event is in the features once": features.are_exact,
    "events per person, counted by other code": features.are_counted,
    "every call over HTTP is answered or refused in time": front_door.are_in_time,
    "what a gateway said 202 to is there": front_door.are_there,
    "lists over HTTP are those of the topic": front_door.are_the_same,
    "dead letters are complete": records.letters_are_complete,
    "every event is learned from once": examples.are_complete,
    "who asked to be forgotten is forgotten": erasures.are_forgotten,
    "every word of consent is in the log": consents.are_told,
    "nobody is learned from who denies it": consents.are_learned_by,
    "the store keeps what consent allows": consents.are_kept_to,
    "answers go by the word in force": consents.are_answered_by,
    "every request is answered": answers.are_there,
    "what counts as shown was answered": answers.are_one,
    "no weights that were never published": answers.are_of_published_weights,
    "no NaN is published": published.are_numbers,
    "no item that was taken down": answers.hold_nothing_taken_down,
    "answers can be made again, byte for byte": answers.can_be_rebuilt,
    "a list that went out is shown once": answers.are_shown_once,
    BEHAVED: processes.behaved,
    "memory is flat": processes.stay_small,
    "weights are those of an undisturbed run": learning.is_undisturbed,
}
"""In the order in which they are judged: the last stops the trainer."""
