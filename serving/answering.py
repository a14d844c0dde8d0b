"""One micro-batch: records of `requests` in, answers out. Reads features; sends nothing.

Before: `serving.worker` polls the records. After: it sends the answers. Knows nothing of Kafka's clients.

Every record gets an answer, now or after a wait, or is a dead letter. A request that names `after` waits, at most
`after_wait_ms`, until the features include those offsets; others are not held up by it. Then it is answered from what
is there: a list that is a moment old serves a page better than an error. The receipt says so by the note
`after=not_reached` in its `policy`, and by its `feature_offsets`. With the store away that is what every such request
gets.

Where more is asked than can be answered, what is answered is of use: a request whose `deadline_ms` is past, or will be
by the time that its answer is made, is refused as `expired` before anything is read or scored for it, and counted. In
the order of the log every answer would otherwise come a moment too late, and all the work be for nobody.

An answer that Kafka would not take goes without its reasons (note `reasons=left_out`); if that is not enough, the
answer is the refusal `too_large`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from pydantic import ValidationError

from headwater.errors import HeadwaterError, InvalidMessage
from headwater.events import MAX_ID_LENGTH, now_ms
from headwater.recommendations import AFTER_NOT_REACHED, Recommendation, Request
from headwater.settings import ServingSettings
from headwater.topics import EVENTS, REQUESTS
from headwater.wire import decode_recommendation, decode_request, encode
from serving.answer_cache import Answered
from serving.message_size import sendable
from serving.popular import POPULAR_ITEMS, Popular
from serving.recalled import RecalledAnswers
from serving.rules import DEFAULT_LIMITS, usual
from serving.scorer import Scorer
from serving.scoring import Ask, ScoredBatch, refuse, score
from serving.serving_metrics import ServingMetrics
from serving.surfaces import Surfaces
from streams.features.fold import Limits
from streams.features.identity import as_one
from streams.features.state import EMPTY, UserState, restored
from streams.features.store import FeatureStore, Reading

__all__ = ["Answer", "Answering", "RequestRecord"]

POPULAR_FOR_S = 1.0
STORE_REST_S = 1.0
SMOOTHED = 8
"""Batches over which the time that one takes is a mean."""

log = logging.getLogger("headwater")


class RequestRecord(Protocol):
    """What is used of a consumed record."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(slots=True)
class Answer:
    """What becomes of one record: a reply (`value`), a dead letter (`refused`), or both.

    `listed` is what a user is shown for the first time: the request and its answer. None for refusals, for who has no
    id, and for a list that went out before.
    """

    record: Any
    user_id: str = ""
    request_id: str = ""
    value: bytes | None = None
    outcome: str = ""
    refused: InvalidMessage | None = None
    listed: tuple[Request, Recommendation] | None = None
    version: int | None = None
    """Of the weights that it was made with."""


@dataclass(slots=True)
class _Begun:
    """A decoded request on its way. `until` is the monotonic time at which waiting for `after` ends."""

    record: Any
    request: Request
    until: float
    state: UserState | None = None
    people: Mapping[str, int] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    offsets: Mapping[str, int] = field(default_factory=dict)
    user_offsets: Mapping[str, int] = field(default_factory=dict)
    unreached: bool = False

    @property
    def ids(self) -> list[str]:
        """Whose features are asked for; none where the request tells all."""
        return [one for one in (self.request.whose, self.request.was) if one is not None]

    @property
    def key(self) -> tuple[str, str]:
        """Whom it is for, empty for nobody, and the request_id."""
        return self.request.whose or "", self.request.request_id

    @property
    def waits(self) -> bool:
        """Whether it names what the features must include."""
        return bool(self.request.after or self.request.after_identities)


@dataclass
class Answering:
    """`answer` takes the records just polled and returns what is to be sent; `waiting` requests stay inside."""

    settings: ServingSettings
    scorer: Scorer
    store: FeatureStore
    metrics: ServingMetrics
    limits: Limits = DEFAULT_LIMITS
    surfaces: Surfaces = field(default_factory=Surfaces)
    recalled: RecalledAnswers | None = None
    waiting: list[_Begun] = field(default_factory=list)
    _answered: Answered = field(default_factory=Answered)
    _popular: Popular = field(default_factory=Popular)
    _popular_until: float = 0.0
    answer_ms: float = 0.0
    """How long it lately took from the look at a batch to its answers."""
    _store_rests_until: float = 0.0

    def forget(self, digests: Container[str]) -> None:
        """Keep no answer of users who were forgotten, given by digest."""
        self._answered.forget(digests)
        if self.recalled is not None:
            self.recalled.forget()

    def answer(self, records: Sequence[Any], *, last: bool = False) -> list[Answer]:
        """Answers of this batch, and of waiting requests whose wait is over. `last`: nothing waits any more."""
        started = time.perf_counter()
        began_ms = now_ms()
        answers: list[Answer] = []
        begun, self.waiting = self._still_of_use(self.waiting, began_ms, answers), []
        for record in records:
            self._begin(record, began_ms, begun, answers)
        if not begun:
            return answers
        begun = self._read(begun, wait=not last)
        if not begun:
            return answers
        read = time.perf_counter()
        asks = [self._ask(one) for one in begun]
        steps: dict[str, float] = {}
        scored = self._score(asks, lambda: self._popular_items(began_ms), steps)
        if scored.not_finite:
            self.metrics.not_finite.inc(scored.not_finite)
            log.error("scores that are not finite were left out", extra={"count": scored.not_finite})
        self.metrics.batch_requests.observe(len(begun))
        timings = {
            "features": (read - started) * 1000,
            "score": (steps["score"] - read) * 1000,
            "rules": (steps["rules"] - steps["score"]) * 1000,
        }
        for one, answer in zip(begun, scored.answers, strict=True):
            answers.append(self._finish(one, answer, began_ms, timings))
        self.answer_ms += ((time.perf_counter() - started) * 1000 - self.answer_ms) / SMOOTHED
        return answers

    def _still_of_use(self, waiting: list[_Begun], now: int, answers: list[Answer]) -> list[_Begun]:
        """Those whose deadline has not passed while they waited; the others are refused."""
        left = []
        for one in waiting:
            refusal = self._expired(one, now)
            if refusal is None:
                left.append(one)
            else:
                answers.append(refusal)
        return left

    def _expired(self, one: _Begun, now: int) -> Answer | None:
        """The refusal of a request of which an answer will be of no use; None while it can be.

        One that has not waited for half of its deadline is tried: how long others took says little of it.
        """
        request, record = one.request, one.record
        if request.deadline_ms is None:
            return None
        asked_ms = request.request_time if "request_time" in request.model_fields_set else record.timestamp
        waited_ms = now - asked_ms
        takes_ms = round(self.answer_ms) if waited_ms > request.deadline_ms / 2 else 0
        if waited_ms + takes_ms <= request.deadline_ms:
            return None
        text = f"asked {waited_ms} ms ago, deadline_ms is {request.deadline_ms}"
        if waited_ms <= request.deadline_ms:
            text += f", and an answer takes {takes_ms} ms now: more is asked than can be answered"
        refusal = refuse(request.request_id, request.whose, "expired", text, now)
        return Answer(record, *one.key, encode(refusal), "expired")

    def _score(self, asks: Sequence[Ask], popular: Callable[[], Popular], steps: dict[str, float]) -> ScoredBatch:
        try:
            return score(
                self.scorer,
                asks,
                now_ms=now_ms(),
                exclude_seen=self.settings.exclude_seen,
                popular=popular,
                limits=self.limits,
                surfaces=self.surfaces,
                mark=lambda step: steps.__setitem__(step, time.perf_counter()),
            )
        except Exception as error:  # a fault of ours; the same batch would come again and again and end every worker
            if len(asks) > 1:
                alone = [self._score([ask], popular, steps) for ask in asks]
                return ScoredBatch([one.answers[0] for one in alone], sum(one.not_finite for one in alone))
            request = asks[0].request
            log.exception("a request could not be scored", extra={"request": request.request_id})
            steps.setdefault("score", time.perf_counter())
            steps["rules"] = time.perf_counter()
            text = f"scoring failed ({type(error).__name__}); the worker's log has the details"
            return ScoredBatch([refuse(request.request_id, request.whose, "internal", text, now_ms())])

    def _begin(self, record: RequestRecord, began_ms: int, begun: list[_Begun], answers: list[Answer]) -> None:
        try:
            request = decode_request(record.value, record.timestamp)
        except InvalidMessage as error:
            answers.append(self._refused(record, error.as_value(), began_ms))
            return
        except Exception as error:  # a fault of ours; the same record would end every worker
            log.exception("a request could not be read", extra={"offset": record.offset})
            text = f"reading the request failed ({type(error).__name__}); the worker's log has the details"
            answers.append(self._refused(record, InvalidMessage("internal", text), began_ms))
            return
        one = _Begun(record, request, time.monotonic() + self.settings.after_wait_ms / 1000)
        known = self._answered.get(one.key, record.value, time.monotonic())
        if known is not None:
            self.metrics.repeated.inc()
            answers.append(Answer(record, *one.key, known[0], known[1]))
            return
        sent = self._sent_before(one)
        if sent is not None:
            self.metrics.repeated.inc()
            answers.append(sent)
            return
        refusal = self._expired(one, began_ms)
        if refusal is not None:
            answers.append(refusal)
            return
        begun.append(one)

    def _sent_before(self, one: _Begun) -> Answer | None:
        """What went out to this very record before, from another process; its list may not have been told of."""
        value = None if self.recalled is None else self.recalled.take(one.record.partition, one.record.offset)
        if value is None:
            return None
        try:
            answer = decode_recommendation(value)
        except InvalidMessage:
            return None
        if answer.request_id != one.request.request_id:
            return None
        outcome = answer.receipt.fallback or "personal"
        self._answered.put(one.key, one.record.value, value, outcome, time.monotonic())
        listed = (one.request, answer) if answer.items and one.request.whose is not None else None
        return Answer(one.record, *one.key, value, outcome, listed=listed)

    def _read(self, begun: list[_Begun], *, wait: bool) -> list[_Begun]:
        """States of the users, in one round trip to each node; those whose `after` is not reached go on waiting."""
        if time.monotonic() < self._store_rests_until:
            return _blind(begun)
        users = list(dict.fromkeys(one for asked in begun for one in asked.ids))
        try:
            reading = self.store.read_users(users, partly=True)
        except HeadwaterError as error:
            self.metrics.features_unavailable.inc()
            log.warning("answering without features: %s", error)
            self._store_rests_until = time.monotonic() + STORE_REST_S
            return _blind(begun)
        if reading.away:
            self.metrics.features_unavailable.inc()
            away = next(iter(reading.away.values()))
            log.warning("answering %d users without features: %s", len(reading.away), away)
        for user in (*reading.damaged, *reading.untold):
            self.metrics.features_unavailable.inc()
            log.error("answering a user without features: a redis key of the user holds none", extra={"user": user})
        for user, why in reading.newer.items():
            self.metrics.features_unavailable.inc()
            log.error("answering a user without features: %s", why, extra={"user": user})
        ready = []
        for one in begun:
            one.state, one.people = _known(one.ids, reading, self.limits)
            one.attributes = reading.attributes_of(one.ids)
            one.offsets, one.user_offsets = _by_name(reading.marks(one.ids)), _by_name(reading.user_marks(one.ids))
            one.unreached = one.waits and (one.state is None or _is_behind(one, reading))
            if one.unreached and wait and time.monotonic() < one.until:
                self.waiting.append(one)
            else:
                ready.append(one)
        return ready

    def _ask(self, one: _Begun) -> Ask:
        state, record, offsets = one.state, one.record, one.offsets
        at = f"{REQUESTS.name}[{record.partition}]@{record.offset}"
        if state is None:
            return Ask(one.request, None, request_at=at)
        if not state.count:
            return Ask(
                one.request,
                state.history,
                offsets,
                request_at=at,
                people=one.people,
                state=state,
                attributes=one.attributes,
                user_offsets=one.user_offsets,
            )
        partition = str(state.partition)
        return Ask(
            one.request,
            state.history,
            {**offsets, partition: max(offsets.get(partition, -1), state.offset)},  # marks are read before states
            state.folded_ms,
            request_at=at,
            history_at=f"{EVENTS.name}[{partition}]@{state.offset}",
            history_events=state.events,
            people=one.people,
            state=state,
            attributes=one.attributes,
            user_offsets=one.user_offsets,
        )

    def _popular_items(self, began_ms: int) -> Popular:
        """Popular items of the store, at most a second old; what was known before while the store is away."""
        now = time.monotonic()
        if now >= max(self._popular_until, self._store_rests_until):
            self._popular_until = now + POPULAR_FOR_S  # where a node is away, too: not with every batch
            with contextlib.suppress(HeadwaterError):  # reading the users says it in the log
                ranked, decay, marks = self.store.popularity(POPULAR_ITEMS)
                self._popular = Popular.of(ranked, decay, began_ms, marks)
        return self._popular

    def _finish(self, one: _Begun, answer: Recommendation, began_ms: int, timings: Mapping[str, float]) -> Answer:
        asked, key = one.record.value, one.key
        known = self._answered.get(key, asked, time.monotonic())
        if known is not None:  # twice in one batch
            self.metrics.repeated.inc()
            return Answer(one.record, *key, *known)
        if answer.error is not None:
            return Answer(one.record, *key, encode(answer), answer.error.code)
        total = time.time_ns() / 1e6 - one.record.timestamp
        answer.receipt.timings_ms.update(  # it is this answer's own; copies of both cost more
            {
                "queue": round(float(max(began_ms - one.record.timestamp, 0)), 3),
                **{name: round(spent, 3) for name, spent in timings.items()},
                "total": round(max(total, 0.0), 3),
            }
        )
        if one.unreached:
            policy = (*answer.receipt.policy, AFTER_NOT_REACHED)
            answer = answer.model_copy(update={"receipt": answer.receipt.model_copy(update={"policy": policy})})
        value = sendable(answer)
        if value is None:
            return _too_large(one, began_ms)
        outcome = answer.receipt.fallback or "personal"
        self._answered.put(key, asked, value, outcome, time.monotonic())
        counts = answer.items and one.request.whose is not None and self._may_show(one, outcome)
        listed = (one.request, answer) if counts else None
        return Answer(one.record, *key, value, outcome, listed=listed, version=answer.receipt.model_version)

    def _may_show(self, one: _Begun, outcome: str) -> bool:
        """Whether what is shown may be told of: without consent it counts for items at most."""
        return outcome != "no_consent" or usual(one.state or EMPTY, self.limits).analyse

    def _refused(self, record: RequestRecord, error: InvalidMessage, began_ms: int) -> Answer:
        """An invalid request: an answer where the asker can be told from what is readable, else a dead letter.

        Bytes that are no JSON are a dead letter in any case; the asker is then the record's key and correlation id.
        """
        user_id, request_id = _asker(record)
        try:
            refusal = refuse(request_id, user_id or None, error.reason, str(error), began_ms)
        except ValidationError:
            return Answer(record, refused=error)
        dead = None if error.reason == "schema" else error
        return Answer(record, user_id, request_id, encode(refusal), error.reason, dead)


def _too_large(one: _Begun, began_ms: int) -> Answer:
    text = "the answer is larger than one Kafka message may be, without its reasons too. Ask for fewer items (k)."
    refusal = refuse(one.request.request_id, one.request.whose, "too_large", text, began_ms)
    return Answer(one.record, *one.key, encode(refusal), "too_large")


def _blind(begun: list[_Begun]) -> list[_Begun]:
    """No features could be read: none of these has what its `after` asks for, or what it needs if it has an id."""
    for one in begun:
        one.state, one.people, one.unreached = None if one.ids else EMPTY, {}, one.waits
    return begun


def _known(ids: Sequence[str], reading: Reading, limits: Limits) -> tuple[UserState | None, dict[str, int]]:
    """What is known of whom a request is for, and of which ids where they are several; None where it cannot be read."""
    if reading.is_away(ids):
        return None, {}
    everybody = sorted({other for one in ids for other in reading.people.get(one, (one,))})
    states = {one: reading.states[one] for one in everybody if one in reading.states}
    if everybody and not states:
        return None, {}
    states |= dict.fromkeys(restored(states, reading.erased), EMPTY)  # of a restored store: the log forgets once more
    counts = {one: state.events for one, state in states.items()}
    return as_one(list(states.values()), limits), counts if len(everybody) > 1 else {}


def _is_behind(one: _Begun, reading: Reading) -> bool:
    events, identities = (
        {int(partition): offset for partition, offset in (wanted or {}).items()}
        for wanted in (one.request.after, one.request.after_identities)
    )
    return not reading.reaches(one.ids, events, identities)


def _by_name(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in sorted(offsets.items())}


def _asker(record: RequestRecord) -> tuple[str, str]:
    """user_id and request_id of an invalid request as far as they can be read, else empty."""
    body: Any = None
    with contextlib.suppress(orjson.JSONDecodeError, TypeError):
        body = orjson.loads(record.value or b"")
    given = body if isinstance(body, dict) else {}
    correlation = next((value for name, value in record.headers if name == "correlation-id"), None)
    return _id(given.get("user_id"), record.key), _id(given.get("request_id"), correlation)


def _id(value: object, instead: bytes | None) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH:
        return value
    return (instead or b"").decode(errors="replace")
