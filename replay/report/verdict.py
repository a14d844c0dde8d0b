"""What a backtest's numbers say, in words: who was best, by how much, whether chance explains it, and what to consider.

Before: a result (`replay.backtest`). After: `replay.report`. Every sentence is a function of the result; none praises.
A difference counts only when its 95% interval excludes zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from replay.backtest.result import Classification, Interval, Leads, Outcome, Result
from replay.report.wording import inline, label, percent, score, signed, whole

__all__ = ["OURS", "REDUCED", "Verdict", "best_peer", "is_peer", "outcome", "told_apart", "verdict"]

OURS = "headwater"

_VARIANTS = frozenset({OURS, "frozen", "hourly", "retrained", "memory", "slow"})

REDUCED = "without "
"""How the names of our model without one of its parts begin (`replay.backtest.variants`)."""

FEW_QUERIES = 1000
"""Below this a report says that it rests on little."""

FEW_USERS = 30
"""Below this an interval over users says little."""

FEW_REACTIONS = 100
"""As of queries, of reactions to what was shown."""

SHOWN_PARTS = 3
"""Parts of the stream that a report's head names; the rest is counted."""


class Verdict(NamedTuple):
    """The two sentences at the top of a report, and what to consider before acting on them."""

    outcome: Outcome
    against_peers: str
    online: str
    concerns: tuple[str, ...]


def is_peer(name: str) -> bool:
    """Whether a ranker is somebody else's method and not Headwater or a part of it."""
    return name not in _VARIANTS and not name.startswith(("headwater@", REDUCED))


def best_peer(values: Mapping[str, float | None]) -> str | None:
    """The peer with the highest value; the first by name among equals."""
    peers = [(-value, name) for name, value in values.items() if is_peer(name) and value is not None]
    return min(peers)[1] if peers else None


def outcome(interval: Interval | None) -> Outcome:
    """What an interval of (Headwater minus another) says."""
    return "unmeasured" if interval is None else interval.says


def verdict(result: Result) -> Verdict:
    """The verdict of one result."""
    found, sentence = _against_peers(result)
    return Verdict(found, sentence, _online(result), tuple(_minds(result)))


def _against_peers(result: Result) -> tuple[Outcome, str]:
    ours = result.ndcg.get(OURS)
    if ours is None:
        return "unmeasured", "Headwater was not measured: no event of this stream could be asked about."
    peer = best_peer(result.ndcg)
    if peer is None:
        return "unmeasured", f"No peer was run, so NDCG@10 {score(ours)} of Headwater has nothing to be compared with."
    theirs = result.ndcg[peer] or 0.0
    both = f"NDCG@10 {score(ours)} against {score(theirs)}"
    lead = result.lead(peer)
    found = outcome(lead)
    if found == "better":
        gain = f"{percent(ours / theirs - 1)} better than" if theirs else "better than"
        return (
            found,
            f"Headwater ranks the next item {gain} the best peer, {inline(peer)} ({both}), {_range(lead)}.",
        )
    if found == "worse":
        gain = f"{percent(theirs / ours - 1)} better" if ours else "better"
        return found, (
            f"Headwater does not beat the best peer: {inline(peer)} ranks the next item {gain} "
            f"({both}), {_range(lead)}."
        )
    if found == "level":
        return found, (f"Headwater cannot be told from the best peer, {inline(peer)}: {both}, {_range(lead)}.")
    order = "above" if ours > theirs else "not above"
    return (
        found,
        f"Headwater is {order} the best peer, {inline(peer)} ({both}), but without an interval: it may be chance.",
    )


def _online(result: Result) -> str:
    ours, frozen = result.ndcg.get(OURS), result.ndcg.get("frozen")
    if ours is None or frozen is None:
        return "What learning online is worth was not measured: no frozen model was run beside it."
    both = f"NDCG@10 {score(ours)} against {score(frozen)}"
    lead = result.lead("frozen")
    found = outcome(lead)
    than = "the same model frozen at the end of the warm-up"
    if found == "level":
        return f"Learning online cannot be told from {than}: {both}, {_range(lead)}."
    tail = f", {_range(lead)}" if found != "unmeasured" else ", without an interval"
    if ours > frozen:
        gain = f"worth {percent(ours / frozen - 1)} over" if frozen else "better than"
        return f"Learning online is {gain} {than} ({both}){tail}."
    loss = percent(1 - ours / frozen) if frozen else "nothing"
    return f"Learning online loses {loss} against {than} ({both}){tail}."


def told_apart(told: Classification) -> str:
    """Whether Headwater tells what was reacted to from what else was shown, and better than whom."""
    ours = told.scorers.get(OURS)
    if ours is None or ours.auc is None:
        return "All that was shown was reacted to, or none of it: there is nothing to tell apart."
    groups: dict[Outcome, list[str]] = {"better": [], "level": [], "worse": [], "unmeasured": []}
    for name, each in told.scorers.items():
        if name != OURS and each.auc is not None:
            groups[outcome(each.auc_lead)].append(f"{_scorer(name)} ({score(each.auc.value)})")
    words: dict[Outcome, str] = {
        "better": "ahead of",
        "level": "not to be told from",
        "worse": "behind",
        "unmeasured": "without an interval beside",
    }
    parts = [f"{words[says]} {_list(names)}" for says, names in groups.items() if names]
    tail = f", {'; '.join(parts)}" if parts else ""
    return (
        f"Headwater's chances tell what was reacted to from the rest with a ROC-AUC of {score(ours.auc.value)} "
        f"(0.5 knows nothing){tail}."
    )


def _scorer(name: str) -> str:
    told = inline(name)
    return told if told.startswith("Headwater") or told == name else f"the {told}"


def _range(lead: Interval | None) -> str:
    assert lead is not None
    says = "contains" if lead.low <= 0 <= lead.high else "excludes"
    return f"and the 95% interval of the difference, {signed(lead.low)} to {signed(lead.high)}, {says} zero"


def _minds(result: Result) -> Iterable[str]:
    """What the verdict does not say and a person who decides should know; each only where the numbers call for it."""
    if result.queries < FEW_QUERIES:
        yield f"Only {whole(result.queries)} queries: the result rests on little."
    if result.users is not None and result.users < FEW_USERS:
        who = "1 user was" if result.users == 1 else f"{whole(result.users)} users were"
        yield f"Only {who} asked about: what holds of others is hardly known."
    share = _unasked(result)
    if share is not None and share > 0.2:
        yield f"{percent(share)} of events after the warm-up could not be asked about; the scores say nothing of them."
    if result.settings.catalogue:
        yield (
            f"A catalogue of {whole(result.settings.catalogue)} items was known to Headwater before the first event, "
            "and to no peer: what was written into it later tells of the future (--no-catalogue leaves it out)."
        )
    yield from _unpublished(result)
    bad, rows = sum(result.source.bad.values()), result.source.rows
    if rows and bad / rows > 0.01:
        yield f"{percent(bad / rows)} of the source's rows were refused."
    if result.ndcg.get(OURS) is None:
        return
    ahead = [
        inline(name)
        for name in sorted(result.results)
        if name != OURS and not is_peer(name) and outcome(result.lead(name)) == "worse"
    ]
    if ahead:
        yield f"A part or variant of Headwater ranks better than the whole here: {_list(ahead)}."
    for name in ("memory", "slow"):
        if outcome(result.lead(name)) == "level":
            yield f"{label(name)} cannot be told from the whole model here: what the rest adds is not measurable."
    yield from _elsewhere(result)
    yield from _of_what_was_shown(result)
    yield from _seeds(result)


def _of_what_was_shown(result: Result) -> Iterable[str]:
    """Where what was turned down, or not reacted to, is not told from the rest."""
    ours = result.negatives.by_ranker.get(OURS) if result.negatives else None
    if ours is not None and ours.auc is not None and ours.auc <= 0.5:
        yield (
            f"Headwater does not rank what users chose above what they turned down ({score(ours.auc)} of 1): "
            "see what was turned down."
        )
    told = result.classification
    if told is None:
        return
    if told.reacted < FEW_REACTIONS:
        yield f"Only {whole(told.reacted)} reactions to what was shown: the figures of that rest on little."
    names = [
        _scorer(name)
        for name, each in told.scorers.items()
        if name != OURS and outcome(each.auc_lead) in ("level", "worse")
    ]
    if names:
        yield f"Of what was shown, Headwater does not tell reactions from the rest better than {_list(names)}."


NO_VOTES = ("not_positive", "shown", "undone")
"""Reasons for which an event is no question at all; of others the question could not be put."""


def _unasked(result: Result) -> float | None:
    """Of the events that speak for their item, the share that could not be asked about."""
    if not result.excluded:
        return result.excluded_share
    unasked = sum(count for reason, count in result.excluded.items() if reason not in NO_VOTES)
    return unasked / (unasked + result.queries) if result.queries else None


def _unpublished(result: Result) -> Iterable[str]:
    """Cadences at which nothing was published while questions were asked."""
    events, warm_up = result.events, result.warm_up
    never = [n for n in result.settings.publish_every if n and (events - 1) // n == warm_up // n]
    if never:
        names = _list([inline(f"headwater@{n}") for n in never])
        yield f"Too short for {names}: nothing was published after the warm-up, so that is the frozen model."


def _elsewhere(result: Result) -> Iterable[str]:
    """Measures and parts of the stream that say something else than the verdict."""
    peer = best_peer(result.ndcg)
    if peer is None:
        return
    found, leads = outcome(result.lead(peer)), result.differences.get(peer, Leads())
    others: dict[str, list[str]] = {"ahead": [], "level": [], "behind": []}
    for head, lead in (("HR@10", leads.hr_10), ("MRR@10", leads.mrr_10), ("NDCG@20", leads.ndcg_20)):
        says = outcome(lead)
        if says not in (found, "unmeasured"):
            others[{"better": "ahead", "worse": "behind"}.get(says, "level")].append(head)
    for where, heads in others.items():
        if heads:
            words = "cannot be told from" if where == "level" else f"is {where} of"
            yield f"By {_list(heads)} Headwater {words} {inline(peer)}."
    parts = []
    for words, values in _slices(result):
        ours, rival = values.get(OURS), best_peer(values)
        theirs = values[rival] if rival else None
        if ours is None or rival is None or theirs is None:
            continue
        if (theirs < ours) if found == "worse" else (theirs > ours):
            parts.append((-abs(theirs - ours), f"{words} ({score(ours)}, {inline(rival)} {score(theirs)})"))
    if parts:
        shown = [words for _, words in sorted(parts)[:SHOWN_PARTS]]
        more = f", and in {len(parts) - SHOWN_PARTS} more parts" if len(parts) > SHOWN_PARTS else ""
        who = "Headwater is ahead" if found == "worse" else "A peer is ahead"
        yield f"{who} {', '.join(shown)}{more}. No interval is computed for parts."


def _seeds(result: Result) -> Iterable[str]:
    ours = result.seeds(OURS)
    if len(ours) == 1:
        yield "One seed: how much the seed moves the scores is not known. The intervals are over users."
    peer = best_peer(result.ndcg)
    theirs = result.ndcg[peer] if peer else None
    if len(ours) > 1 and theirs is not None and min(ours) <= theirs <= max(ours):
        ours_told = f"{score(min(ours))} to {score(max(ours))}"
        yield f"Seeds disagree: Headwater has {ours_told}, {inline(peer or OURS)} {score(theirs)}."


def _slices(result: Result) -> Iterable[tuple[str, dict[str, float | None]]]:
    for key, words in (
        ("new_users", "for new users"),
        ("returning_users", "for returning users"),
        ("new_items", "for new items"),
        ("warm_items", "for warm items"),
    ):
        if key in result.groups:
            yield words, result.groups[key].ndcg
    if len(result.by_type) > 1:
        for kind, found in result.by_type.items():
            yield f"on events of type {kind}", found.ndcg
    if len(result.curve) > 1:
        yield "in the newest window of the curve", result.curve[-1].ndcg


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
