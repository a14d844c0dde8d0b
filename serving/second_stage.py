"""The second stage of one request: its candidates, what the ranker says of them, and their scores revised.

Before: the graph's scores and parts of the batch, and the request's rules written into its scores. After: whoever
arranges the list. Candidates and facts are those of `models.ranker`, which the learner calls, too. Knows no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.examples import Entry
from streams.features.state import EMPTY, UserState

if TYPE_CHECKING:
    from serving.scorer import Half

__all__ = ["Situation", "asked_outputs", "revise"]

Array = npt.NDArray[Any]
RowIds = npt.NDArray[np.int64]

NO_ROWS: RowIds = np.zeros(0, np.int64)


class Situation(NamedTuple):
    """What the second stage knows of one request.

    Fields
        history: that it is answered from, oldest first.
        at_ms: the instant, epoch ms.
        state: whose history it is, for what it tells beyond it.
        context: of the moment, as in `Request.context`.
        attributes: what was told of the user (`headwater.users`).
        session: `events.session_number` of the one that it is asked in, None where that is not known.
    """

    history: Sequence[Entry]
    at_ms: int
    state: UserState = EMPTY
    context: Mapping[str, Any] = {}
    attributes: Mapping[str, Any] = {}
    session: int | None = None


def asked_outputs(half: Half) -> list[str]:  # noqa: ARG001
    """The outputs of the graph that `revise` reads of a model, beside `scores`; none where it has no ranker."""
    return []


def revise(half: Half, situation: Situation, scores: Array, parts: Mapping[str, Array]) -> RowIds:  # noqa: ARG001
    """Add to the candidates' scores what the ranker says of them.

    Parameters
        half: the model that answers.
        situation: who asks, and when.
        scores: (capacity,), -inf where the rules let nothing go; written to.
        parts: (capacity,) each, by the names of `asked_outputs`.

    Returns
        The candidates' rows, ascending; none where the model has no ranker.
    """
    return NO_ROWS
