"""What a backtest's numbers say, in words: who was best, by how much, whether chance explains it, and what to mind.

Before: a result (`replay.backtest`). After: `replay.report`. Every sentence is a function of the result; none praises.
A difference counts only when its 95% interval excludes zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from replay.report.wording import inline, interval, label, percent, plain, score, signed, whole

__all__ = [
    "METRIC",
    "OURS",
    "REDUCED",
    "Outcome",
    "Verdict",
    "best_peer",
    "is_peer",
    "of",
    "outcome",
    "part",
    "value",
    "verdict",
]

METRIC = "ndcg@10"
OURS = "headwater"

_VARIANTS = frozenset({OURS, "frozen", "hourly", "retrained", "memory", "slow"})

REDUCED = "without "
"""How the names of our model without one of its parts begin (`replay.backtest.ablation`)."""

Outcome = Literal["better", "level", "worse", "unmeasured"]

FEW_QUERIES = 1000
"""Below this a report says that it rests on little."""

FEW_USERS = 30
"""Below this an interval over users says little."""

SHOWN_PARTS = 3
"""Parts of the stream that a report's head names; the rest is counted."""


class Verdict(NamedTuple):
    """The two sentences at the top of a report, and what to mind before acting on them."""

    outcome: Outcome
    against_peers: str
    online: str
    minds: tuple[str, ...]


def part(result: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """A part of a result that is an object; empty when it is missing, null or something else."""
    found: Any = result
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def of(result: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """A part of a result that is a list of objects; empty when it is not."""
    found = result.get(key)
    return [dict(row) for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


def value(result: Mapping[str, Any], name: str, metric: str = METRIC) -> float | None:
    """One ranker's measure."""
    return plain(part(result, "results", name).get(metric))


def is_peer(name: str) -> bool:
    """Whether a ranker is somebody else's method and not Headwater or a part of it."""
    return name not in _VARIANTS and not name.startswith(("headwater@", REDUCED))


def best_peer(values: Mapping[str, Any]) -> str | None:
    """The peer with the highest value; the first by name among equals."""
    peers = [(-found, name) for name, each in values.items() if is_peer(name) and (found := plain(each)) is not None]
    return min(peers)[1] if peers else None


def outcome(difference: Any) -> Outcome:
    """What an interval [low, mean, high] of (Headwater minus another) says."""
    found = interval(difference)
    if found is None:
        return "unmeasured"
    return "better" if found[0] > 0 else "worse" if found[2] < 0 else "level"


def verdict(result: Mapping[str, Any]) -> Verdict:
    """The verdict of one result."""
    found, sentence = _against_peers(result)
    return Verdict(found, sentence, _online(result), tuple(_minds(result)))


def _against_peers(result: Mapping[str, Any]) -> tuple[Outcome, str]:
    ours = value(result, OURS)
    if ours is None:
        return "unmeasured", "Headwater was not measured: no event of this stream could be asked about."
    peer = best_peer({name: value(result, name) for name in part(result, "results")})
    if peer is None:
        return "unmeasured", f"No peer was run, so NDCG@10 {score(ours)} of Headwater has nothing to be compared with."
    theirs = value(result, peer) or 0.0
    both = f"NDCG@10 {score(ours)} against {score(theirs)}"
    difference = part(result, "differences", peer).get(METRIC)
    found = outcome(difference)
    if found == "better":
        gain = f"{percent(ours / theirs - 1)} better than" if theirs else "better than"
        return (
            found,
            f"Headwater ranks the next item {gain} the best peer, {inline(peer)} ({both}), {_range(difference)}.",
        )
    if found == "worse":
        gain = f"{percent(theirs / ours - 1)} better" if ours else "better"
        return found, (
            f"Headwater does not beat the best peer: {inline(peer)} ranks the next item {gain} "
            f"({both}), {_range(difference)}."
        )
    if found == "level":
        return found, (f"Headwater cannot be told from the best peer, {inline(peer)}: {both}, {_range(difference)}.")
    order = "above" if ours > theirs else "not above"
    return (
        found,
        f"Headwater is {order} the best peer, {inline(peer)} ({both}), but without an interval: it may be chance.",
    )


def _online(result: Mapping[str, Any]) -> str:
    ours, frozen = value(result, OURS), value(result, "frozen")
    if ours is None or frozen is None:
        return "What learning online is worth was not measured: no frozen model was run beside it."
    both = f"NDCG@10 {score(ours)} against {score(frozen)}"
    difference = part(result, "differences", "frozen").get(METRIC)
    found = outcome(difference)
    than = "the same model frozen at the end of the warm-up"
    if found == "level":
        return f"Learning online cannot be told from {than}: {both}, {_range(difference)}."
    tail = f", {_range(difference)}" if found != "unmeasured" else ", without an interval"
    if ours > frozen:
        gain = f"worth {percent(ours / frozen - 1)} over" if frozen else "better than"
        return f"Learning online is {gain} {than} ({both}){tail}."
    loss = percent(1 - ours / frozen) if frozen else "nothing"
    return f"Learning online loses {loss} against {than} ({both}){tail}."


def _range(difference: Any) -> str:
    found = interval(difference)
    assert found is not None
    says = "contains" if found[0] <= 0 <= found[2] else "excludes"
    return f"and the 95% interval of the difference, {signed(found[0])} to {signed(found[2])}, {says} zero"


def _minds(result: Mapping[str, Any]) -> Iterable[str]:
    """What the verdict does not say and a person who decides should know; each only where the numbers call for it."""
    queries = plain(result.get("queries"))
    if queries is not None and queries < FEW_QUERIES:
        yield f"Only {whole(queries)} queries: the result rests on little."
    users = plain(result.get("users"))
    if users is not None and users < FEW_USERS:
        who = "1 user was" if users == 1 else f"{whole(users)} users were"
        yield f"Only {who} asked about: what holds of others is hardly known."
    share = plain(result.get("excluded_share"))
    if share is not None and share > 0.2:
        yield f"{percent(share)} of events after the warm-up could not be asked about; the scores say nothing of them."
    catalogue = plain(part(result, "settings").get("catalogue"))
    if catalogue:
        yield (
            f"A catalogue of {whole(catalogue)} items was known to Headwater before the first event, and to no peer: "
            "what was written into it later tells of the future (--no-catalogue leaves it out)."
        )
    yield from _unpublished(result)
    bad, rows = _sum(part(result, "source", "bad")), plain(part(result, "source").get("rows"))
    if rows and bad / rows > 0.01:
        yield f"{percent(bad / rows)} of the source's rows were refused."
    if value(result, OURS) is None:
        return
    ahead = [
        inline(name)
        for name in sorted(part(result, "results"))
        if name != OURS and not is_peer(name) and outcome(part(result, "differences", name).get(METRIC)) == "worse"
    ]
    if ahead:
        yield f"A part or variant of Headwater ranks better than the whole here: {_list(ahead)}."
    for name in ("memory", "slow"):
        if outcome(part(result, "differences", name).get(METRIC)) == "level":
            yield f"{label(name)} cannot be told from the whole model here: what the rest adds is not measurable."
    yield from _elsewhere(result)
    yield from _seeds(result)


def _unpublished(result: Mapping[str, Any]) -> Iterable[str]:
    """Cadences at which nothing was published while questions were asked."""
    events, warm_up = plain(result.get("events")), plain(result.get("warm_up"))
    every = part(result, "settings").get("publish_every")
    if events is None or warm_up is None or not isinstance(every, list):
        return
    never = [int(n) for n in map(plain, every) if n and (events - 1) // n == warm_up // n]
    if never:
        names = _list([inline(f"headwater@{n}") for n in never])
        yield f"Too short for {names}: nothing was published after the warm-up, so that is the frozen model."


def _elsewhere(result: Mapping[str, Any]) -> Iterable[str]:
    """Measures and parts of the stream that say something else than the verdict."""
    peer = best_peer({name: value(result, name) for name in part(result, "results")})
    if peer is None:
        return
    found = outcome(part(result, "differences", peer).get(METRIC))
    others: dict[str, list[str]] = {"ahead": [], "level": [], "behind": []}
    for key in ("hr@10", "mrr@10", "ndcg@20"):
        says = outcome(part(result, "differences", peer).get(key))
        if says not in (found, "unmeasured"):
            others[{"better": "ahead", "worse": "behind"}.get(says, "level")].append(key.upper())
    for where, keys in others.items():
        if keys:
            words = "cannot be told from" if where == "level" else f"is {where} of"
            yield f"By {_list(keys)} Headwater {words} {inline(peer)}."
    parts = []
    for words, values in _slices(result):
        ours, rival = plain(values.get(OURS)), best_peer(values)
        theirs = plain(values[rival]) if rival else None
        if ours is None or rival is None or theirs is None:
            continue
        if (theirs < ours) if found == "worse" else (theirs > ours):
            parts.append((-abs(theirs - ours), f"{words} ({score(ours)}, {inline(rival)} {score(theirs)})"))
    if parts:
        shown = [words for _, words in sorted(parts)[:SHOWN_PARTS]]
        more = f", and in {len(parts) - SHOWN_PARTS} more parts" if len(parts) > SHOWN_PARTS else ""
        who = "Headwater is ahead" if found == "worse" else "A peer is ahead"
        yield f"{who} {', '.join(shown)}{more}. No interval is computed for parts."


def _seeds(result: Mapping[str, Any]) -> Iterable[str]:
    raw = part(result, "by_seed", OURS).get(METRIC)
    ours = [found for each in raw if (found := plain(each)) is not None] if isinstance(raw, list) else []
    if len(ours) == 1:
        yield "One seed: how much the seed moves the scores is not known. The intervals are over users."
    peer = best_peer({name: value(result, name) for name in part(result, "results")})
    theirs = value(result, peer) if peer else None
    if len(ours) > 1 and theirs is not None and min(ours) <= theirs <= max(ours):
        ours_told = f"{score(min(ours))} to {score(max(ours))}"
        yield f"Seeds disagree: Headwater has {ours_told}, {inline(peer or OURS)} {score(theirs)}."


def _slices(result: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    for key, words in (
        ("new_users", "for new users"),
        ("returning_users", "for returning users"),
        ("new_items", "for new items"),
        ("warm_items", "for warm items"),
    ):
        yield words, part(result, "groups", key, METRIC)
    for kind in part(result, "by_type"):
        if len(part(result, "by_type")) > 1:
            yield f"on events of type {kind}", part(result, "by_type", kind, METRIC)
    curve = of(result, "curve")
    if len(curve) > 1:
        yield "in the newest window of the curve", part(curve[-1], METRIC)


def _sum(counts: Mapping[str, Any]) -> float:
    return sum(found for each in counts.values() if (found := plain(each)) is not None)


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
