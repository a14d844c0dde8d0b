"""From a history of entries to the arrays that the model reads: the one preprocessing for learner and serving alike.

Before: histories from examples (learning) or from the feature store (serving). After: `encoder` and `memory` while
learning, the ONNX graph's runtime inputs while serving. Knows nothing of weights.

Only the newest `length` entries are read; of those, items without a row are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Entry, Shown
from headwater.signals import Meaning
from models.config import ModelConfig
from models.shown.showings import pad_tired, tired_of

__all__ = [
    "Recent",
    "Steps",
    "behind_ms",
    "encode_entries",
    "encode_fresh",
    "encode_gap",
    "encode_histories",
    "encode_since",
    "event_weight",
    "lesson_weight",
    "pad_steps",
    "recent_of",
    "step_weights",
]


FADE = 0.8

ABSENT = -0.0
"""An encoded value that is none: the encoder reads a zero, and `step_weights` can tell it from one."""


class Steps(NamedTuple):
    """One sequence as the encoder reads it, oldest first: parallel lists of row, type index, value and gap.

    `speaks` says of each step whether its event speaks for its item (1), against it (less its weight) or neither (0),
    `starts` whether a new session starts with it; empty where nobody asks.
    """

    rows: list[int]
    types: list[int]
    values: list[float]
    gaps: list[float]
    speaks: Sequence[float] = ()
    starts: list[bool] = []  # noqa: RUF012 - whoever extends it has a copy


def encode_gap(later_ms: int, earlier_ms: int) -> float:
    """Time between two moments as the model sees it: log of seconds, about 0 to 2; out of order counts as 0."""
    return math.log1p(max(later_ms - earlier_ms, 0) / 1000.0) / 10.0


class TurnedDown(NamedTuple):
    """What speaks against its item in a history, newest step first."""

    rows: NDArray[np.int64]  # (m,)
    ago_ms: NDArray[np.float64]  # (m,)
    much: float  # see `aversion_of`


class Recent(NamedTuple):
    """What speaks for its item in a history, as the association memories read it, newest step first."""

    rows: NDArray[np.int64]  # (n,), repeats and all
    ago_ms: NDArray[np.float64]  # (n,), how long before the event each one was
    against: TurnedDown | None = None

    def distinct(self) -> Recent:
        """Of repeats the newest alone."""
        newest: dict[int, float] = {}
        for row, ago in zip(self.rows.tolist(), self.ago_ms.tolist(), strict=True):
            newest.setdefault(row, ago)
        return Recent(np.array(list(newest), np.int64), np.array(list(newest.values()), np.float64))


def recent_of(steps: Steps, since_ms: int) -> Recent:
    """The liked steps of a history whose newest entry was `since_ms` before the event."""
    rows, ago_ms = np.array(steps.rows[::-1], np.int64), behind_ms(steps.gaps[::-1]) + max(since_ms, 0)
    if all(one > 0 for one in steps.speaks):
        return Recent(rows, ago_ms)
    speaks = np.array(steps.speaks[::-1], np.float32)
    liked, turned_down = speaks > 0, speaks < 0
    against = TurnedDown(rows[turned_down], ago_ms[turned_down], aversion_of(steps.speaks))
    return Recent(rows[liked], ago_ms[liked], against if turned_down.any() else None)


def aversion_of(speaks: Sequence[float]) -> float:
    """How much is turned down, of steps oldest first: the cube of the share of votes that are against, times the mean
    weight of these; each step counts 0.8 of the one after it.

    >>> [round(aversion_of(votes), 3) for votes in ([1, -1, 0], [], [-1], [-4], [1] * 20 + [-4])]
    [0.171, 0.0, 1.0, 4.0, 0.033]
    """
    step, votes, against, weighed = 1.0, 0.0, 0.0, 0.0
    for one in reversed(speaks):
        if one:
            votes += step
            if one < 0:
                against += step
                weighed -= step * one
        step *= FADE
    return (against / votes) ** 3 * weighed / against if against else 0.0


def behind_ms(gaps: Sequence[float] | NDArray[np.float32]) -> NDArray[np.float64]:
    """How long before the first of some steps each one was, (n,), from their `gaps`, newest step first.

    >>> behind_ms([encode_gap(9_000, 2_000), encode_gap(2_000, 1_000), 0.0]).round().tolist()
    [0.0, 7000.0, 8000.0]
    """
    gone = np.expm1(np.array(gaps, np.float64) * 10.0) * 1000.0
    behind: NDArray[np.float64] = np.cumsum(gone) - gone
    return behind


def encode_since(history: Sequence[Entry], now_ms: int) -> float:
    """Time from the newest entry to now, on the scale of `encode_gap`; 0 for an empty history."""
    return encode_gap(now_ms, history[-1].time_ms) if history else 0.0


def encode_fresh(history: Sequence[Entry], session: int | None) -> float:
    """1 where a new session starts with the question: the newest entry's session and its own are known and differ."""
    newest = history[-1].session if history and session is not None else None
    return float(newest is not None and newest != session)


def event_weight(kind: str, value: float | None, config: ModelConfig) -> float:
    """How much an event weighs as a target: its type's weight, and up to `1 + value_weight` times that by its value.

    The value counts as v / (1 + v), so that a price cannot drown everything; absent or negative as 0. What does not
    speak for its item weighs nothing.

    >>> event_weight("rating", 3.0, ModelConfig(type_weights={"rating": 2.0}, value_weight=1.0))
    3.5
    """
    if config.meanings.meaning(kind, value) is not Meaning.POSITIVE:
        return 0.0
    weight = config.type_weights.get(kind)
    if weight is None:
        weight = config.meanings.of(kind).weight_of(value)
    if config.value_weight and value is not None and value > 0:
        weight *= 1.0 + config.value_weight * (value / (1.0 + value))
    return weight


def lesson_weight(kind: str, value: float | None, config: ModelConfig) -> float:
    """How much an event weighs in the encoder's loss: above 0 as a target; below 0, its item was turned down.

    >>> lesson_weight("dismiss", None, ModelConfig(negative_loss=0.5)), lesson_weight("view", None, ModelConfig())
    (-2.0, 1.0)
    """
    if config.negative_loss and config.meanings.meaning(kind, value) is Meaning.NEGATIVE:
        return -config.negative_loss * config.meanings.of(kind).force
    return event_weight(kind, value, config)


def step_weights(
    types: NDArray[Any], values: NDArray[np.float32], type_index: Mapping[str, int], config: ModelConfig
) -> NDArray[np.float32]:
    """`lesson_weight` of steps as `encode_entries` encodes them: type indices and values of any shape, float32 out."""
    by_index = np.ones(config.max_types + 1, np.float32)
    by_value: list[str] = []
    for name, index in type_index.items():
        signal = config.meanings.of(name)
        if signal.by_value or (isinstance(signal.reward, str) and name not in config.type_weights):
            by_value.append(name)
        elif signal.meaning(None) is Meaning.POSITIVE:
            by_index[index] = config.type_weights.get(name, signal.force)
        else:
            by_index[index] = lesson_weight(name, None, config)
    weights: NDArray[np.float32] = by_index[types]
    if config.value_weight:
        value = np.maximum(_decoded(values), 0.0)
        more = (1.0 + config.value_weight * (value / (1.0 + value))).astype(np.float32)
        weights = np.where(weights > 0, weights * more, weights)
    for name in by_value:
        at = types == type_index[name]
        absent = (values[at] == 0) & np.signbit(values[at])
        found, place = np.unique(values[at], return_inverse=True)
        said = [float(f"{one:.6g}") for one in _decoded(found).tolist()]  # float32 holds no more of its logarithm
        weigh = np.array([lesson_weight(name, one, config) for one in said], np.float32)[place]
        weights[at] = np.where(absent, np.float32(lesson_weight(name, None, config)), weigh)
    return weights


def _decoded(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Values as they were before `encode_entries`; none is beyond 1e304, so that all can be reckoned with."""
    size = np.minimum(2.0 * np.abs(values.astype(np.float64)), 700.0)
    return np.copysign(np.expm1(size), values)


def encode_entries(
    history: Sequence[Entry],
    item_rows: Mapping[str, int | None],
    type_index: Mapping[str, int],
    config: ModelConfig,
    newest: int = 0,
) -> Steps:
    """The newest `newest` entries of a history, `config.length` of them by default, without what was merely shown.

    Values are log-scaled, sign kept; an absent value is `ABSENT`. A session starts between two entries whose sessions
    are known and differ.
    """
    steps, length = Steps([], [], [], [], said := [], starts := []), newest or config.length
    rows, types, values, gaps = steps[:4]
    first = max(len(history) - length, 0)
    earlier = history[max(first - 1, 0)] if history else None
    before, session_before = (earlier.time_ms, earlier.session) if earlier is not None else (0, None)
    log1p, started = math.log1p, False
    told: dict[tuple[str, float | None], tuple[bool, int, float, float]] = {}  # most entries say what another one does
    for item_id, kind, time_ms, value, session in history[first:]:
        if session != session_before:
            started = started or (session is not None and session_before is not None)
            session_before = session
        row = item_rows.get(item_id)
        if row is not None:
            one = told.get((kind, value))
            if one is None:
                one = told[kind, value] = _told(kind, value, type_index, config)
            is_shown, type_, coded, speaks = one
            if not is_shown:
                rows.append(row)
                types.append(type_)
                values.append(coded)
                gaps.append(log1p((time_ms - before) / 1000.0) / 10.0 if time_ms > before else 0.0)
                said.append(speaks)
                starts.append(started)
                started = False
        before = time_ms
    return steps


def _told(
    kind: str, value: float | None, type_index: Mapping[str, int], config: ModelConfig
) -> tuple[bool, int, float, float]:
    """Of an entry's type and value whether it was merely shown, the type's index, the coded value and what it says."""
    meaning = config.meanings.meaning(kind, value)
    coded = math.copysign(math.log1p(abs(value)), value) / 2.0 if value else ABSENT if value is None else 0.0
    speaks = 1.0 if meaning is Meaning.POSITIVE else config.meanings.speaks(kind, value)
    return meaning is Meaning.EXPOSURE, type_index.get(kind, 0), coded, speaks


def pad_steps(sequences: Sequence[Steps], length: int) -> dict[str, NDArray[np.generic]]:
    """Sequences of at most `length` steps, right-padded with zeros.

    Returns
        By name: history, types int64 (B, length); values, gaps, starts float32 (B, length); lengths int32 (B,).
    """
    size = (len(sequences), length)
    rows, types = np.zeros(size, np.int64), np.zeros(size, np.int64)
    values, gaps = np.zeros(size, np.float32), np.zeros(size, np.float32)
    starts, lengths = np.zeros(size, np.float32), np.zeros(len(sequences), np.int32)
    for i, steps in enumerate(sequences):
        n = len(steps.rows)
        lengths[i] = n
        rows[i, :n], types[i, :n], values[i, :n], gaps[i, :n] = steps[:4]
        if True in steps.starts:
            starts[i, :n] = steps.starts
    return {"history": rows, "types": types, "values": values, "gaps": gaps, "starts": starts, "lengths": lengths}


def encode_histories(
    histories: Sequence[Sequence[Entry]],
    now_ms: Sequence[int],
    item_rows: Mapping[str, int],
    types: Sequence[str],
    config: ModelConfig,
    shown: Sequence[Sequence[Shown]] = (),
    sessions: Sequence[int | None] | None = None,
    encoded: Sequence[Steps] = (),
) -> dict[str, NDArray[np.generic]]:
    """The runtime inputs of the served graph.

    Parameters
        histories: B of them, each oldest first.
        now_ms: the instant that each is asked about, epoch ms.
        item_rows: row by item id, of the bundle.
        types: event types of the bundle, in the order of their indices from 1.
        config: of the bundle; L is `config.length`.
        shown: of each, what its user was shown, oldest first; of no user anything where it is empty.
        sessions: `events.session_number` of the session that each is asked in, None where that is not known.
        encoded: `encode_entries` of each, where that is done.

    Returns
        By name: history and types int64 (B, L), values, gaps, speaks and starts float32 (B, L), right-padded with 0;
        lengths int32 (B,), the number of real steps (0 for an empty history); since float32 (B,), the time since the
        newest entry on the scale of `encode_gap`; against float32 (B,), `aversion_of`; fresh float32 (B,),
        `encode_fresh`; and what `pad_tired` returns.
    """
    if not encoded:
        type_index = {name: i + 1 for i, name in enumerate(types)}
        encoded = [encode_entries(history, item_rows, type_index, config) for history in histories]
    arrays = pad_steps(encoded, config.length)
    speaks = arrays["speaks"] = np.zeros((len(encoded), config.length), np.float32)
    for i, steps in enumerate(encoded):
        speaks[i, : len(steps.speaks)] = steps.speaks
    arrays["against"] = np.array([aversion_of(steps.speaks) for steps in encoded], np.float32)
    arrays["since"] = np.array([encode_since(h, now) for h, now in zip(histories, now_ms, strict=True)], np.float32)
    each = zip(shown or [()] * len(encoded), now_ms, strict=True)
    arrays |= pad_tired([tired_of(one, now, item_rows) for one, now in each])
    asked_in = sessions or [None] * len(histories)
    arrays["fresh"] = np.array([encode_fresh(*one) for one in zip(histories, asked_in, strict=True)], np.float32)
    return arrays
