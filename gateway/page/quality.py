"""How good the lists are: what the newest answers and events tell, and what backtests have measured.

Before: `gateway.page.views`, in a thread. After: the topics `recommendations` and `events`, and a folder of results.
Each answer says how much was looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from gateway.page.lookup import newest_records
from headwater.errors import InvalidMessage, SourceError
from headwater.events import Item, now_ms
from headwater.recommendations import Recommendation
from headwater.settings import Settings
from headwater.signals import Meaning, Signals
from headwater.topics import EVENTS, RECOMMENDATIONS
from headwater.wire import EventRow, decode_recommendation, read_past_events

if TYPE_CHECKING:
    from replay.backtest.result import Result
    from replay.report.comparison import Comparison

__all__ = ["Quality"]

NEWEST_ANSWERS, NEWEST_EVENTS = 400, 8_000
"""Of each partition."""
NEW_FOR_MS = 7 * 24 * 3_600_000
MOST_NEW = 12
MOST_RESULTS = 30
MOST_RESULT_BYTES = 30_000_000
MOST_ROWS = 60
OF_PEERS = ("headwater", "popularity")


class _Did(NamedTuple):
    """What people did, of the events looked at."""

    items: Counter[str]
    """Of those that speak for an item."""
    reacted: Counter[str]
    """By item, those that name the list in which it stood."""
    events: int


class Quality:
    """Each method reads, and takes as long as that. Raises Unavailable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.gateway.backtests

    def shown(self, catalogue: Mapping[str, Item]) -> dict[str, Any]:
        """Coverage, diversity, popularity and newness of what the newest lists show."""
        answers = list(self._answers())
        did = self._did({one.request_id for one in answers})
        lists = [[item.item_id for item in one.items] for one in answers]
        places = Counter(item for one in lists for item in one)
        kinds = Counter(one.receipt.fallback or "personal" for one in answers)
        return {
            "lists": len(lists),
            "events": did.events,
            "catalogue": len(catalogue),
            "distinct": len(places),
            "in_catalogue": sum(item in catalogue for item in places),
            "kinds": dict(kinds.most_common()),
            "diversity": _diversity(lists, catalogue),
            "popular": _popular(places, did.items, catalogue),
            "reacted": sum(did.reacted.values()),
            "new": _new(places, did, catalogue),
            "dated": sum(one.published_time is not None for one in catalogue.values()),
        }

    def _answers(self) -> Iterator[Recommendation]:
        for record in newest_records(self._settings.kafka, RECOMMENDATIONS, NEWEST_ANSWERS):
            try:
                found = decode_recommendation(record.value)
            except InvalidMessage:
                continue
            if found.items:
                yield found

    def _did(self, requests: set[str]) -> _Did:
        signals, items, reacted, events = Signals(self._settings.signals), Counter[str](), Counter[str](), 0
        for record in newest_records(self._settings.kafka, EVENTS, NEWEST_EVENTS):
            for row in read_past_events(record):
                if not isinstance(row, EventRow) or row.items:
                    continue
                events += 1
                if signals.meaning(row.type, row.value) is Meaning.POSITIVE:
                    items[row.item_id] += 1
                    reacted[row.item_id] += row.request_id in requests
        return _Did(items, reacted, events)

    def experiments(self) -> dict[str, Any]:
        """What came of each variant of an experiment, by the newest events; nothing of it where people say what may be
        analysed, for that takes the whole log.
        """
        from replay.analysed import Analysable
        from replay.experiments import Outcomes, experiments_in_force

        in_force = experiments_in_force(self._settings)
        names = sorted({one.name for one in in_force})
        told: dict[str, Any] = {"in_force": names, "consents": self._settings.privacy.consent != "off"}
        if told["consents"]:
            return {**told, "events": 0, "results": {}}
        outcomes, events = Outcomes(self._settings), 0
        analysable = Analysable(self._settings)
        for record in newest_records(self._settings.kafka, EVENTS, NEWEST_EVENTS):
            for row in read_past_events(record):
                if isinstance(row, EventRow) and analysable.has(row, record.partition):
                    events += 1
                    outcomes.take(row)
        results = {one.name: one.told() for one in outcomes.results(in_force)}
        return {**told, "events": events, "results": results}

    def results(self) -> dict[str, Any]:
        """The results in the folder, the newest first; and of the newest that has it, calibration and ablation."""
        told, newest = [], dict.fromkeys(NEWEST_OF)
        for path in self._files():
            row: dict[str, Any] = {"file": path.name, "written_ms": round(path.stat().st_mtime * 1000)}
            try:
                result = _read(path)
                told.append({**row, **_row(result)})
            except SourceError as error:
                told.append({**row, "problem": str(error).replace(f"{path}: ", "")})
                continue
            for name, part in NEWEST_OF.items():
                if newest[name] is None and (found := part(result)) is not None:
                    newest[name] = {**found, **row}
        return {"folder": None if self._folder is None else str(self._folder), "results": told, **newest}

    def _files(self) -> list[Path]:
        if self._folder is None or not self._folder.is_dir():
            return []
        found = [path for path in self._folder.glob("*.json") if path.is_file()]
        return sorted(found, key=lambda path: -path.stat().st_mtime)[:MOST_RESULTS]

    def _named(self, name: str) -> Result:
        path = next((one for one in self._files() if one.name == name), None)
        if path is None:
            raise InvalidMessage("schema", f"{name!r:.80}: there is no such result in the folder (any more)")
        try:
            return _read(path)
        except SourceError as error:
            raise InvalidMessage("schema", str(error)) from error

    def report(self, name: str) -> dict[str, Any]:
        """What one result says. Raises InvalidMessage."""
        return _report(self._named(name))

    def compared(self, first: str, second: str) -> dict[str, Any]:
        """Two results side by side. Raises InvalidMessage."""
        from replay.report import compare

        a, b = self._named(first), self._named(second)
        told = _compared(compare(a, b))
        for which, result in (("A", a), ("B", b)):
            for part in NEWEST_OF.values():
                if (found := part(result)) is not None:
                    told["parts"].append({**found, "title": f"{which}: {found['title']}"})
        return told


def _diversity(lists: Iterable[Sequence[str]], catalogue: Mapping[str, Item]) -> float | None:
    """Share of the pairs within a list that have no category in common, by the mean over lists."""
    shares = []
    for one in lists:
        several = [set(catalogue[item].categories) for item in one if item in catalogue and catalogue[item].categories]
        pairs = [not (a & b) for a, b in combinations(several, 2)]
        if pairs:
            shares.append(sum(pairs) / len(pairs))
    return sum(shares) / len(shares) if shares else None


def _popular(places: Counter[str], did: Counter[str], catalogue: Mapping[str, Item]) -> list[dict[str, Any]]:
    """Of the most popular items of the catalogue: their share of places in lists, and of what people did."""
    of = max(len(catalogue), len(did))
    shown, done = places.total(), did.total()
    if not of or not shown or not done:
        return []
    told = []
    for part in (0.01, 0.1, 0.5):
        best = [item for item, _ in did.most_common(math.ceil(part * of))]
        told.append(
            {
                "part": part,
                "items": math.ceil(part * of),
                "of_places": sum(places[item] for item in best) / shown,
                "of_events": sum(did[item] for item in best) / done,
            }
        )
    return told


def _new(places: Counter[str], did: _Did, catalogue: Mapping[str, Item]) -> list[dict[str, Any]]:
    """The newest items of the last week, with what became of them so far."""
    now = now_ms()
    since = [(now - one.published_time, key) for key, one in catalogue.items() if one.published_time is not None]
    return [
        {
            "item_id": key,
            "age_ms": age,
            "shown": places[key],
            "events": did.items[key],
            "reacted": did.reacted[key],
        }
        for age, key in sorted(one for one in since if 0 <= one[0] <= NEW_FOR_MS)[:MOST_NEW]
    ]


def _read(path: Path) -> Result:
    from replay.backtest.result import read_result

    size = path.stat().st_size
    if size > MOST_RESULT_BYTES:
        raise SourceError(f"{path}: has {size:,} bytes, no result of a backtest is so large")
    return read_result(path)


def _row(result: Result) -> dict[str, Any]:
    from replay.report.verdict import best_peer
    from replay.report.wording import label

    peer, ours = best_peer(result.ndcg), result.results.get("headwater")
    lead = None if peer is None else result.lead(peer)
    return {
        "source": "/".join((result.source.name or "a stream").split("/")[-2:]),
        "events": result.events,
        "queries": result.queries,
        "ndcg": {name: result.ndcg.get(name) for name in OF_PEERS},
        "peer": None if peer is None else {"name": label(peer), "ndcg": result.ndcg[peer]},
        "lead": None if lead is None else list(lead),
        "coverage": None if ours is None else ours.coverage_10,
        "novelty": None if ours is None else ours.novelty_10,
    }


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], chart: str = "") -> dict[str, Any]:
    """A section as JSON: cells of the reports are text, or markup with a text in it."""
    told = [[Markup(one).striptags() if isinstance(one, Markup) else str(one) for one in row] for row in rows]
    return {"title": title, "heads": [head or "Of" for head in heads], "rows": told[:MOST_ROWS], "chart": chart}


def _report(result: Result) -> dict[str, Any]:
    """What a person asks first, in the words and pictures of the reports."""
    from replay.report import sections
    from replay.report.diversity import diversity
    from replay.report.verdict import verdict
    from replay.report.wording import label

    said = verdict(result)

    def columns(title: str, found: Sequence[sections.Column], chart: str = "") -> dict[str, Any]:
        names = [name for _, members in sections.groups_of_rankers(result) for name in members]
        rows = [[label(name), *(column.cells.get(name, "–") for column in found)] for name in names]
        return _table(title, ("Ranker", *(column.head for column in found)), rows, chart)

    parts = [columns("Rankers, by the same questions", sections.measures(result), str(sections.leads(result)))]
    if (curve := sections.curve(result)) is not None:
        parts.append(_table(curve.title, curve.heads, curve.rows, str(curve.charts)))
    if covered := sections.coverage(result):
        parts.append(columns("Coverage and novelty of lists of ten", covered))
    if (cold := sections.cold_and_warm(result)) is not None:
        parts.append(_table(cold.title, cold.heads, cold.rows, str(cold.charts)))
    if (varied := diversity(result)) is not None:
        parts.append(_table(varied.title, varied.heads, varied.rows, str(varied.charts)))
    parts += [found for one in NEWEST_OF.values() if (found := one(result)) is not None]
    if steady := sections.seeds(result):
        rows = [[label(row[0]), *row[1:]] for row in steady]
        parts.append(_table("By seed", ("Ranker", "Seeds", "Mean NDCG@10", "Deviation", "Range"), rows))
    return {
        "outcome": said.outcome,
        "verdict": [said.against_peers, said.online],
        "concerns": list(said.concerns),
        "parts": parts,
        "missing": _unmeasured(result),
    }


def _calibration(result: Result) -> dict[str, Any] | None:
    """Chances against shares, in bins, where lists were shown and reacted to."""
    from replay.report.classified import classification

    shown = classification(result)
    if shown is None or not shown.bins:
        return None
    heads = ("Scorer", "Items", "Chance that was given", "Share that was reacted to")
    picture = next((str(chart) for chart, caption in shown.pictures if caption.startswith("Calibration")), "")
    return _table("Calibration: is a chance what it says?", heads, shown.bins, picture)


def _ablation(result: Result) -> dict[str, Any] | None:
    """What each part of the model is worth, where that was asked."""
    from replay.report import sections

    found = sections.ablation(result)
    return None if found is None else _table(found.title, found.heads, found.rows, str(found.charts))


NEWEST_OF: Mapping[str, Callable[[Result], dict[str, Any] | None]] = {
    "calibration": _calibration,
    "ablation": _ablation,
}
"""What Quality shows of the newest result that has it, and of each result."""


def _unmeasured(result: Result) -> dict[str, str]:
    """What was not asked of this backtest, with the option that asks it."""
    options = {
        "ablation: Headwater without each of its parts": ("--ablation", result.settings.ablation),
        "diversity of lists": ("--diversity", result.diversity is not None),
        "calibration: chances against what lists were reacted to": (
            "a stream with lists that were shown: kafka",
            bool(_calibration(result)),
        ),
        "several seeds": ("--seeds", len(result.settings.seeds) > 1),
    }
    return {told: option for told, (option, there) in options.items() if not there}


def _compared(found: Comparison) -> dict[str, Any]:
    from replay.report.comparison import SPEEDS, further
    from replay.report.wording import label, number, score, signed

    ndcg = [
        [label(name), score(one.a), score(one.b), signed(one.change)]
        for name, each in found.results.items()
        if (one := each.get("ndcg@10")) is not None
    ]
    heads = ("What", "A", "B", "B - A")
    parts = [_table("NDCG@10", heads, ndcg)]
    for title, rows in further(found):
        parts.append(_table(title, heads, [[name, score(m.a), score(m.b), signed(m.change)] for name, m in rows]))
    for title, differ in (
        ("Settings that differ", found.settings),
        ("Versions that differ", found.versions),
        ("Types of event that meant something else", found.meanings),
    ):
        if differ:
            parts.append(_table(title, ("What", "A", "B"), [[name, *both] for name, both in differ.items()]))
    speed = [[SPEEDS[key], number(one.a), number(one.b)] for key, one in found.speed.items()]
    parts.append(_table("Speed and memory", ("What", "A", "B"), speed))
    return {"comparable": found.comparable, "verdict": found.verdict, "reasons": found.reasons, "parts": parts}
