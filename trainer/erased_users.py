"""Forgetting behind a gap in `examples`: who was erased there, and whom the trainer would keep for ever.

Before: a trainer goes on behind records that it never read, by leave. Among them may be examples at which it would have
forgotten somebody; the facts on `erasures` outlive them. After: a checkpoint that stands alone. Knows no Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headwater.examples import EventPosition
from headwater.privacy import ErasureFact, digest_of
from models.learner import Learner
from trainer.same_queries import SameQueries

__all__ = ["forget_passed_over"]


def forget_passed_over(
    facts: Iterable[ErasureFact],
    marks: Mapping[int, EventPosition],
    learner: Learner,
    same_queries: SameQueries,
) -> int | None:
    """Forget everybody whose erasure the trainer has not met.

    Parameters
        facts: of the topic, whoever wrote them: one too many takes away windows and rates, no more.
        marks: of `Progress`, by partition of `events`: what lies at or before them was met. A fact whose place is of
            another log was not.
        learner, same_queries: keep nothing of them afterwards.

    Returns
        How many users something was kept of; None where no fact is new to this trainer.
    """
    new = {fact.digest for fact in facts if fact.offset < 0 or fact.offset > _met(marks, fact.partition)}
    if not new:
        return None
    gone = [one for one in learner.known_users() | same_queries.known_users() if digest_of(one) in new]
    for one in gone:
        learner.forget_user(one)
        same_queries.forget_user(one)
    return len(gone)


def _met(marks: Mapping[int, EventPosition], partition: int) -> int:
    mark = marks.get(partition)
    return -1 if mark is None else mark.offset
