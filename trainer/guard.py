"""The guard in front of every publication: a model that is broken, or worse than what serves now, is not published.

Before: the publisher, with what it is about to publish, and `same_queries` with how learner and published model did on
the same queries. After: a refusal with its reason, or nothing. Pure: no Kafka, no disk, no clock. The parity of ONNX
and torch is checked by `models.published.parity`; this counts it as a reason.

A fall against the past says nothing: the world may have become harder, for any model. A fall that the published model
does not share, on the same queries, is the learner's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import BundleError
from models.finite import not_finite

__all__ = ["WIDEST", "Outcome", "Refused", "gain_of", "refuse_non_finite", "refuse_worse"]

WINDOWS = {32: 4.5, 64: 4.0, 128: 3.5, 256: 3.0}
"""So many newest queries are judged, and refused when ours is worse by so many standard errors: few show a collapse at
once, many a fall. There is a look at each every second, so chance must not do it within a year of equals."""

WIDEST = max(WINDOWS)

FEW_USERS = 8
"""A window of fewer users, but the widest, says more of them than of a model."""

FEW_ROUNDS = 4
"""A window of fewer rounds says more of a moment, when everybody turns to something new, than of a model."""

TOP = 10


class Refused(BundleError):
    """A publication was refused. `reason` is the short word it is counted under: not_finite, regression, parity."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Outcome(NamedTuple):
    """How three rankers did on one query: their NDCG@10 of it. `rival` is what was published before.

    `round` numbers the publication that it was asked for: what happens at one moment happens to all its queries.
    """

    user_id: str
    ours: float
    rival: float
    popularity: float
    round: int


def gain_of(rank: int) -> float:
    """NDCG@10 of one query whose target has a 1-based rank.

    >>> [round(gain_of(rank), 2) for rank in (1, 2, 10, 11)]
    [1.0, 0.63, 0.29, 0.0]
    """
    return 1.0 / math.log2(rank + 1.0) if 1 <= rank <= TOP else 0.0


def refuse_worse(outcomes: Sequence[Outcome], bound: float, rival: str, *, held_back: bool = False) -> None:
    """Compare the learner with what serves now.

    Parameters
        outcomes: of the newest queries that both were asked.
        bound: a share of the rival's NDCG@10 by which ours may be lower.
        rival: what it is called in the message.
        held_back: the model before was: then this has to be good enough on all outcomes, chance or not, or publication
            would go on and off.

    Raises
        Refused: `regression`: ours is lower by more than that, beyond chance. Queries of one user count as the few
            things that they say, and so do those of one round: the error is the largest of the three.

    >>> refuse_worse([Outcome(f"u{i}", 0.3, 0.3, 0.1, i // 8) for i in range(300)], 0.2, "version 7")
    >>> refuse_worse([Outcome(f"u{i}", 0.0, 0.3, 0.1, i // 8) for i in range(300)], 0.2, "version 7")
    Traceback (most recent call last):
    ...
    trainer.guard.Refused: NDCG@10 is 0.0000 where version 7 has 0.3000 (popularity 0.1000), on the same 32 queries
    """
    gains = np.array([one[1:4] for one in outcomes]).reshape(-1, 3)
    for n, errors in {len(outcomes): 0.0}.items() if held_back else WINDOWS.items():
        newest = outcomes[-n:]
        if not 0 < n <= len(outcomes) or not (held_back or _says_enough(newest)):
            continue
        spare = gains[-n:, 0] - (1.0 - bound) * gains[-n:, 1]  # (n,) 0 on average: ours is just good enough
        if spare.mean() + errors * _standard_error(spare, newest) < 0:
            ours, rivals, popularity = gains[-n:].mean(0)
            raise Refused(
                "regression",
                f"NDCG@10 is {ours:.4f} where {rival} has {rivals:.4f} (popularity {popularity:.4f}), on the same "
                f"{n} queries",
            )


def _says_enough(outcomes: Sequence[Outcome]) -> bool:
    users, rounds = {one.user_id for one in outcomes}, {one.round for one in outcomes}
    return len(rounds) >= FEW_ROUNDS and (len(users) >= FEW_USERS or len(outcomes) >= WIDEST)


def _standard_error(values: NDArray[np.float64], outcomes: Sequence[Outcome]) -> float:
    """Of the mean of values (n,): that of single queries, of users or of rounds, whichever is the largest."""
    off = values - values.mean()
    squares = [float((off**2).sum())]
    for groups in ([one.user_id for one in outcomes], [one.round for one in outcomes]):
        sums = np.bincount(np.unique(groups, return_inverse=True)[1], off)
        squares.append(float((sums**2).sum()) * len(sums) / max(len(sums) - 1, 1))
    return math.sqrt(max(squares)) / len(values)


def refuse_non_finite(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises Refused (`not_finite`) when a floating point array holds NaN or infinity."""
    found = not_finite(arrays)
    if found is not None:
        raise Refused("not_finite", found)
