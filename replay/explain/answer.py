"""`replay explain`: a past recommendation, made again from the logs and compared byte for byte.

Before: its receipt. After: the same `score` that answered, on features, catalogue, rules and weights as they were. What
was measured then (timings, the ages of features and weights, when it was answered) no replay can measure again: it is
taken from the log, and everything else is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import orjson

from headwater.errors import InvalidMessage, SourceError
from headwater.recommendations import AFTER_NOT_REACHED, REASONS_LEFT_OUT, Recommendation, Request
from headwater.settings import Settings
from headwater.wire import decode_recommendation
from replay.explain.log import (
    attributes_at,
    catalogue_at,
    find_recommendation,
    find_request,
    fold_asker,
    fold_popularity,
    surfaces_at,
)
from replay.explain.model import rebuild_model
from serving.message_size import without_reasons
from serving.popular import Popular
from serving.scorer import Scorer
from serving.scoring import Ask, score
from streams.features.fold import Limits
from streams.features.state import EMPTY

__all__ = ["Explanation", "explain_answer", "explain_id", "read_answer"]


@dataclass(frozen=True)
class Explanation:
    """`rebuilt` beside `logged`.

    Fields
        difference: the first one; None when the bytes are equal.
        request: what was asked.
        folded, model: in words, what the features were folded from and where the model came from.
        surface: in words, by whose policy, and what of it was left to chance; empty for neither.
        notes: what may explain a difference.
    """

    logged: Recommendation
    rebuilt: Recommendation
    difference: str | None
    request: Request
    folded: str
    model: str
    surface: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether the rebuilt answer is the logged one, byte for byte."""
        return self.difference is None


def read_answer(text: bytes) -> Recommendation:
    """A recommendation from its JSON.

    Raises
        SourceError: The text is no recommendation.
    """
    try:
        return decode_recommendation(text)
    except InvalidMessage as error:
        raise SourceError(f"this is no recommendation: {error}") from error


def explain_id(settings: Settings, request_id: str) -> Explanation:
    """Rebuild the answer to a request, as `explain_answer` does an answer. Raises SourceError when no log has it."""
    return explain_answer(settings, find_recommendation(settings, request_id))


def explain_answer(settings: Settings, logged: Recommendation) -> Explanation:
    """Rebuild an answer from its receipt.

    Parameters
        settings: Where the logs are, and how trainer and serving were set.
        logged: The answer, as it is in `recommendations`.

    Raises
        SourceError: Retention or compaction has taken what the answer was made of, or it is a refusal.
        Unavailable: Kafka does not answer.
    """
    receipt = logged.receipt
    if logged.error is not None:
        raise SourceError(
            f"request {logged.request_id!r} was refused ({logged.error.code}: {logged.error.message:.200}): there is "
            "no list to rebuild, and a refusal has no receipt"
        )
    request = find_request(settings, logged)
    notes: list[str] = []
    surfaces, surface = surfaces_at(settings, request, receipt)
    state, folded, attributes = None, "nothing: the store could not be read then", dict[str, Any]()
    if receipt.fallback != "no_features":
        state, folded = fold_asker(settings, request, receipt)
        attributes, lost = attributes_at(settings, request, receipt)
        if lost:
            notes.append(f"attributes of {lost} were told again later, and compaction has taken what was known then")
    catalogue, gone = catalogue_at(settings, receipt)
    if gone:
        notes.append(f"compaction has taken {gone:,} older records of items: versions that are gone are not known here")
    bundle, model = rebuild_model(settings, receipt)
    popular = fold_popularity(settings, receipt) if receipt.popular_time is not None else Popular()
    scorer = Scorer(catalogue, "cpu", settings.serving.threads)
    now_ms = logged.answered_time
    if bundle is not None:
        scorer.load(bundle, now_ms - int(receipt.weight_age_ms or 0))
    ask = Ask(
        request,
        None if state is None else state.history,
        receipt.feature_offsets,
        None if receipt.feature_age_ms is None else now_ms - int(receipt.feature_age_ms),
        request_at=receipt.request_at,
        history_at=receipt.history_at,
        history_events=0 if state is None else receipt.history_events,
        people=receipt.people,
        state=state or EMPTY,
        attributes=attributes,
        user_offsets=receipt.user_offsets,
    )
    rules = receipt.exclude_seen or ()
    limits = Limits.of(settings)
    scored = score(scorer, [ask], now_ms=now_ms, exclude_seen=rules, popular=popular, limits=limits, surfaces=surfaces)
    rebuilt = _with_measured(scored.answers[0], logged)
    difference = first_difference(logged, rebuilt)
    return Explanation(logged, rebuilt, difference, request, folded, model, _policy(surface, rebuilt), notes)


def _policy(whose: str, answer: Recommendation) -> str:
    """In words, by whose policy an answer is."""
    named = [part for part in (answer.receipt.surface, answer.receipt.surface_version) if part]
    said = [f"{' '.join(named)}, {whose}"] if whose else []
    by_chance = sum(item.propensity < 1 for item in answer.items)
    if by_chance:
        said.append(f"{by_chance} of {len(answer.items)} places drawn by chance, from the request's id")
    return "; ".join(said)


def _with_measured(made: Recommendation, logged: Recommendation) -> Recommendation:
    """What no replay can measure again comes from the log: timings, and whether a wait ended in vain.

    So does whether reasons were left out: that hung on the size of the bytes, and an older release wrote `policy`
    shorter.
    """
    if made.error is not None:
        return made
    waited = (AFTER_NOT_REACHED,) if AFTER_NOT_REACHED in logged.receipt.policy else ()
    measured = {
        "timings_ms": logged.receipt.timings_ms,
        "policy": (*made.receipt.policy, *waited),
        "counted_age_ms": logged.receipt.counted_age_ms,
        "learned_age_ms": logged.receipt.learned_age_ms,
    }
    answer = made.model_copy(update={"receipt": made.receipt.model_copy(update=measured)})
    return without_reasons(answer) if REASONS_LEFT_OUT in logged.receipt.policy else answer


def first_difference(logged: Recommendation, rebuilt: Recommendation) -> str | None:
    """Where the canonical JSON of two answers first differs; None when the bytes are equal."""
    ours, theirs = (one.model_dump(mode="json", exclude_none=True) for one in (rebuilt, logged))
    if orjson.dumps(ours) == orjson.dumps(theirs):
        return None
    return _difference("", theirs, ours) or "the order of fields"


def _difference(at: str, logged: Any, rebuilt: Any) -> str | None:
    if isinstance(logged, dict) and isinstance(rebuilt, dict):
        for name in dict.fromkeys([*logged, *rebuilt]):
            path = f"{at}.{name}" if at else str(name)
            found = _difference(path, logged.get(name), rebuilt.get(name))
            if found:
                return found
        return None
    if isinstance(logged, list) and isinstance(rebuilt, list):
        for place, (theirs, ours) in enumerate(zip_longest(logged, rebuilt)):
            found = _difference(f"{at}[{place}]", theirs, ours)
            if found:
                return found
        return None
    if orjson.dumps(logged) == orjson.dumps(rebuilt):
        return None
    return f"{at}: the log has {_shown(logged)}, rebuilt is {_shown(rebuilt)}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"{orjson.dumps(value).decode():.200}"
