"""Two backtests side by side: may they be compared, what was set differently, what changed.

Before: two results, read from their files. After: a terminal (`render`) or a page (`replay.report.page`). Two
runs may be compared only when they asked the same queries: same source, same warm-up, same events excluded. A result
does not hold its single queries, so no interval of a difference between runs is known: only the seeds tell of chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from replay.backtest.result import Classifier, Measures, Result, SettingsUsed, TypeMeaning
from replay.report.verdict import OURS, is_peer
from replay.report.wording import DASH, flat, label, meant, number, percent, score, signed, whole

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["SPEEDS", "Comparison", "Moved", "compare", "further", "leaves", "render"]

SPEEDS = {
    "seconds": "Whole backtest, s",
    "events_per_s": "All rankers, events/s",
    "learner_events_per_s": "Learner, events/s",
    "peak_rss_mb": "Memory, MB",
}


ASKED_AS = ("means", "positive", "negative", "undoes")
"""What of a signal decides which events are queries and what stands in a history."""


class Moved(NamedTuple):
    """A figure in both: B - A, or B / A of speeds."""

    a: float | None
    b: float | None
    change: float | None


class Comparison(BaseModel):
    """What differs between two results."""

    model_config = ConfigDict(frozen=True)

    comparable: bool
    reasons: list[str]
    """Against comparing them."""
    verdict: str
    """One sentence on Headwater."""
    same_weights: bool | None
    """None: not known."""
    meanings: dict[str, tuple[str, str]]
    """Types of event that meant something else, in A and in B."""
    settings: dict[str, tuple[str, str]]
    versions: dict[str, tuple[str, str]]
    """Those that differ, in A and in B."""
    results: dict[str, dict[str, Moved]]
    """By ranker that both have, and by measure; NDCG@10 is always one of them."""
    shown: dict[str, dict[str, Moved]]
    """By scorer of what was shown that both have, and by figure."""
    turned_down: dict[str, Moved]
    """By ranker the share of what was turned down that a list of ten would have held."""
    only_a: list[str]
    only_b: list[str]
    """Rankers that the other has not."""
    by_seed: tuple[list[float], list[float]]
    """Headwater's NDCG@10."""
    speed: dict[str, Moved]


def compare(a: Result, b: Result) -> Comparison:
    """What differs between two results. They may be compared when their queries are the same."""
    reasons = _reasons(a, b)
    shared = [name for name in a.results if name in b.results]
    shared.sort(key=lambda name: (name != OURS, not is_peer(name), -(a.ndcg[name] or 0.0), name))
    return Comparison(
        comparable=not reasons,
        reasons=reasons,
        verdict=_verdict(a, b, reasons),
        same_weights=None if a.digest is None or b.digest is None else a.digest == b.digest,
        meanings=_meanings(a, b),
        settings=_differing(leaves(a.settings), leaves(b.settings)),
        versions=_differing(a.versions, b.versions),
        results={name: _measures(a.results[name], b.results[name]) for name in shared},
        shown=_shown(a, b),
        turned_down=_turned_down(a, b),
        only_a=sorted(a.results.keys() - b.results.keys()),
        only_b=sorted(b.results.keys() - a.results.keys()),
        by_seed=(a.seeds(OURS), b.seeds(OURS)),
        speed={
            "seconds": _ratio(a.seconds, b.seconds),
            "events_per_s": _ratio(a.events_per_s, b.events_per_s),
            "learner_events_per_s": _ratio(a.learner_events_per_s, b.learner_events_per_s),
            "peak_rss_mb": _ratio(a.peak_rss_mb, b.peak_rss_mb),
        },
    )


def _reasons(a: Result, b: Result) -> list[str]:
    """Why the two runs asked different queries. Where the source's digest is known, its name does not matter."""
    first, second = a.source, b.source
    pairs = (
        ("other source: events", first.events, second.events),
        ("other source: rows", first.rows, second.rows),
        ("other source: units of time", first.time_unit, second.time_unit),
    )
    found = [f"{words} {_told(one)} and {_told(other)}" for words, one, other in pairs if one != other]
    if first.bad != second.bad:
        found.append("other source: other rows were refused")
    if first.digest is not None and second.digest is not None:
        if first.digest != second.digest:
            found.append("other source: other events, or in another order")
    elif Path(str(first.name)).name != Path(str(second.name)).name:
        found.append(f"other source: {first.name} and {second.name}")
    counts = (
        ("events", a.events, b.events),
        ("warm-up", a.warm_up, b.warm_up),
        ("queries", a.queries, b.queries),
    )
    found += [f"{words}: {whole(one)} and {whole(other)}" for words, one, other in counts if one != other]
    if a.excluded != b.excluded:
        found.append("other events were excluded")
    if a.settings.rule != b.settings.rule:
        found.append("other rules for items already seen, so other items were ranked")
    if others := _meanings(a, b):
        told = "; ".join(f"{kind} is {one} in A and {other} in B" for kind, (one, other) in others.items())
        found.append(f"other meanings, so other events were asked about: {told}")
    if not found and _other_events(a, b):
        found.append("other events behind the same numbers: types, groups or times of windows differ")
    return found


def _meanings(a: Result, b: Result) -> dict[str, tuple[str, str]]:
    """Types that both streams have and that meant something else, weights aside: these ask the same queries."""
    shared = [kind for kind in a.meanings if kind in b.meanings]
    pairs = {kind: (_asked_as(a.meanings[kind]), _asked_as(b.meanings[kind])) for kind in shared}
    return {kind: (one, other) for kind, (one, other) in pairs.items() if one != other}


def _asked_as(given: TypeMeaning) -> str:
    return meant({field: each for field, each in given.signal.items() if field in ASKED_AS})


def _other_events(a: Result, b: Result) -> bool:
    """Whether counts and times that follow from the stream alone, whoever ranks, give two streams away."""
    for first, second in ((a.by_type, b.by_type), (a.groups, b.groups)):
        if {name: one.queries for name, one in first.items()} != {name: one.queries for name, one in second.items()}:
            return True
    ends = [{row.events: row.time for row in result.curve} for result in (a, b)]
    return any(ends[0][each] != ends[1][each] for each in ends[0].keys() & ends[1].keys())


def _told(given: float | str | None) -> str:
    return str(given) if given is None or isinstance(given, str) else whole(given)


def _verdict(a: Result, b: Result, reasons: list[str]) -> str:
    if reasons:
        return (
            "The two runs cannot be compared: they did not ask the same queries. The numbers stand side by side only."
        )
    first, second = a.ndcg.get(OURS), b.ndcg.get(OURS)
    if first is None or second is None:
        return "Headwater was not measured in both runs."
    both = f"NDCG@10 {score(first)} in A, {score(second)} in B"
    if first == second:
        same = a.digest is not None and a.digest == b.digest
        return f"Headwater ranks alike in both{', with the same weights' if same else ''} ({both})."
    better, lower, higher = ("B", first, second) if second > first else ("A", second, first)
    gain = f"{percent(higher / lower - 1)} better" if lower else "better"
    seeds_a, seeds_b = a.seeds(OURS), b.seeds(OURS)
    if min(len(seeds_a), len(seeds_b)) < 2:
        return f"{better} ranks {gain} ({both}). One run has only one seed: whether chance explains it is not known."
    top, bottom = (seeds_b, seeds_a) if better == "B" else (seeds_a, seeds_b)
    if min(top) > max(bottom):
        return f"{better} ranks {gain} ({both}), and each of its seeds is above each seed of the other."
    return f"The two runs cannot be told apart: {both}, and their seeds overlap."


def leaves(settings: SettingsUsed) -> dict[str, str]:
    """Every single setting that a result tells of, by its dotted name."""
    return dict(flat(settings.model_dump(mode="json", exclude_unset=True)))


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    names = sorted(a.keys() | b.keys())
    return {name: (a.get(name, DASH), b.get(name, DASH)) for name in names if a.get(name) != b.get(name)}


def _measures(a: Measures, b: Measures) -> dict[str, Moved]:
    first, second = (each.model_dump(by_alias=True, exclude_unset=True) for each in (a, b))
    return {measure: _moved(first.get(measure), second.get(measure)) for measure in first or ["ndcg@10"]}


SHOWN = {
    "auc": "ROC-AUC",
    "by_user": "ROC-AUC by user",
    "mrr": "MRR in its list",
    "log_loss": "Log loss",
    "f1": "F1",
}


def _shown(a: Result, b: Result) -> dict[str, dict[str, Moved]]:
    """What the scorers made of what was shown, where both runs were shown the same."""
    first, second = a.classification, b.classification
    if first is None or second is None:
        return {}
    pairs = {name: (one, second.scorers[name]) for name, one in first.scorers.items() if name in second.scorers}
    return {name: _figures(*pair) for name, pair in pairs.items()}


def _figures(a: Classifier, b: Classifier) -> dict[str, Moved]:
    found = {}
    for key in SHOWN:
        first, second = (_figure(each, key) for each in (a, b))
        if first is not None or second is not None:
            found[key] = _moved(first, second)
    return found


def _figure(of: Classifier, key: str) -> float | None:
    if key == "f1":
        return of.at_threshold.f1 if of.at_threshold else None
    found = {
        "auc": of.auc,
        "by_user": of.grouped.weighted if of.grouped else None,
        "mrr": of.mrr,
        "log_loss": of.log_loss,
    }[key]
    return found.value if found else None


def _turned_down(a: Result, b: Result) -> dict[str, Moved]:
    if a.negatives is None or b.negatives is None:
        return {}
    first, second = a.negatives.by_ranker, b.negatives.by_ranker
    return {name: _moved(one.in_top_10, second[name].in_top_10) for name, one in first.items() if name in second}


def _moved(a: float | None, b: float | None) -> Moved:
    return Moved(a, b, None if a is None or b is None else round(b - a, 6))


def _ratio(a: float | None, b: float | None) -> Moved:
    return Moved(a, b, b / a if a and b is not None else None)


def further(comparison: Comparison) -> list[tuple[str, list[tuple[str, Moved]]]]:
    """What both runs have beside the ranking of queries: title, and (name, figure) of each row."""
    found = []
    if comparison.turned_down:
        rows = [(label(name), moved) for name, moved in comparison.turned_down.items()]
        found.append(("Turned down next, among the first ten (less is better)", rows))
    for key, head in SHOWN.items():
        rows = [(label(name), each[key]) for name, each in comparison.shown.items() if key in each]
        if rows:
            found.append((f"Of what was shown: {head}{' (less is better)' if key == 'log_loss' else ''}", rows))
    return found


def render(comparison: Comparison) -> RenderableType:
    """The comparison for a terminal: the verdict first, then what differs."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def made(title: str, *heads: str) -> Table:
        table = Table(title=title or None, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for place, head in enumerate(heads):
            table.add_column(head, justify="right" if place else "left", overflow="fold")
        return table

    parts: list[RenderableType] = [Text(comparison.verdict, style="bold" if comparison.comparable else "bold red")]
    parts += [Text(f"  {reason}") for reason in comparison.reasons]
    results = made("NDCG@10", "ranker", "A", "B", "B - A", "HR@10 B - A")
    for name, measures in comparison.results.items():
        ndcg, hits = (measures.get(key, Moved(None, None, None)) for key in ("ndcg@10", "hr@10"))
        results.add_row(Text(label(name)), score(ndcg.a), score(ndcg.b), signed(ndcg.change), signed(hits.change))
    parts += [Text(), results]
    for title, rows in further(comparison):
        beside = made("", "", "A", "B", "B - A")  # its title would be as narrow as the table
        for name, moved in rows:
            beside.add_row(Text(name), score(moved.a), score(moved.b), signed(moved.change))
        parts += [Text(), Text(title, style="bold"), beside]
    for which, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        if names:
            parts.append(Text(f"Only in {which}: {', '.join(label(name) for name in names)}"))
    if comparison.meanings:
        meanings = made("Types of event that meant something else", "type", "A", "B")
        for kind, (first, second) in comparison.meanings.items():
            meanings.add_row(Text(kind), Text(first), Text(second))
        parts += [Text(), meanings]
    for key, differ in (("settings", comparison.settings), ("versions", comparison.versions)):
        if differ:
            differing = made(f"{key.capitalize()} that differ", "name", "A", "B")
            for name, (first, second) in differ.items():
                differing.add_row(Text(name), Text(first), Text(second))
            parts += [Text(), differing]
        else:
            parts.append(Text(f"No {key} differ."))
    speed = made("Speed and memory", "", "A", "B", "B / A")
    for key, moved in comparison.speed.items():
        ratio = DASH if moved.change is None else f"{moved.change:.2f}"
        speed.add_row(SPEEDS[key], number(moved.a), number(moved.b), ratio)
    return Group(*parts, Text(), speed)
