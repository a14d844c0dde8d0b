"""What workers say of themselves, asked every two seconds and kept for half an hour: the numbers and curves of Now.

Before: the file of workers' addresses. After: `gateway.page.views`. A worker that does not answer is shown as one.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from markupsafe import Markup

from viewing.charts import NARROW, Line, lines_chart
from viewing.figures import Figures, read_figures
from viewing.worker_metrics import Scrape, http_get, quantile, read_metrics

__all__ = ["Watch", "beside_another", "plain_line", "widest_band"]

log = logging.getLogger("headwater")

LOOK_S = 2.0
KEPT = 900
"""Looks: half an hour."""
RATE_LOOKS = 5
QUANTILE_LOOKS = 30
HALF = 540
"""Width of a chart that stands beside another, in pixels."""
FEW = 30
"""Questions with fewer of which no band is drawn."""
POINTS = 150
"""That a curve has at most."""
MEASURES = ("ndcg_at_10", "hit_rate_at_10", "mrr", "shown_auc", "shown_log_loss", "ranker_ndcg_at_10")
"""Of the trainer's newest window, each by model: headwater, popularity ..."""
ANSWERED, TO_ANSWER = "headwater_requests_answered_total", "headwater_request_seconds"


class _SaidNow(NamedTuple):
    """What one worker said at one look; an empty `scrape` where it said nothing of itself."""

    scrape: Scrape
    health: str
    ready: bool
    measured: bool

    def metrics(self) -> Scrape:
        return self.scrape


@dataclass(frozen=True)
class _Look:
    """Counts of a worker that did not answer are None, lest its return looks like a flood."""

    figures: Figures
    applied: float | None
    answered: float | None
    to_answer: dict[float, float]
    lag: dict[str, dict[str, float]]
    workers: dict[str, dict[str, Any]]
    quality: dict[str, Any]


class Watch:
    """`follow` in a thread of its own; `told` from any.

    Fields
        told: the newest numbers and curves, for all who look; `known` is false where there are none.
    """

    def __init__(self, workers_file: Path | None) -> None:
        self._file = workers_file
        self._looks: deque[_Look] = deque(maxlen=KEPT)
        self.told: dict[str, Any] = {"known": False}

    def follow(self, stopping: threading.Event) -> None:
        """Look until told to stop."""
        while not stopping.is_set():
            self.look()
            stopping.wait(LOOK_S)

    def look(self) -> None:
        """Look once; whatever goes wrong is told."""
        try:
            self._looks.append(self._look())
            self.told = {**self._numbers(), "charts": self._charts()}
        except Exception as error:
            log.warning("the page cannot ask the workers", exc_info=error)
            self.told = {"known": False, "problem": f"the page cannot ask the workers: {error}"[:300]}

    def _look(self) -> _Look:
        urls = _addresses(self._file) if self._file and self._file.exists() else {}
        asked = {name: _ask(url) for name, url in urls.items()}
        serving = asked["serving"].scrape if "serving" in asked else Scrape()
        figures = read_figures(asked)
        applied = figures.applied if "streams" in asked and asked["streams"].measured else None
        answered = serving.total(ANSWERED) if "serving" in asked and asked["serving"].measured else None
        lag: dict[str, dict[str, float]] = {}
        for name, one in asked.items():
            for sample in one.scrape.samples("headwater_lag"):
                lag.setdefault(name, {})[sample.labels.get("topic", "")] = sample.value
        workers = {name: {"health": one.health, "ready": one.ready} for name, one in asked.items()}
        quality = _quality(asked["trainer"].scrape if "trainer" in asked else Scrape())
        return _Look(figures, applied, answered, serving.buckets(TO_ANSWER), lag, workers, quality)

    def _numbers(self) -> dict[str, Any]:
        looks = list(self._looks)
        if not looks or not looks[-1].workers:
            return {"known": False}
        now, before, minute = looks[-1], looks[-RATE_LOOKS:][0], looks[-QUANTILE_LOOKS:][0]
        span_s = now.figures.at_s - before.figures.at_s
        answer = (
            [quantile(q, now.to_answer, minute.to_answer) for q in (0.5, 0.99)] if minute is not now else [None] * 2
        )
        return {
            "known": True,
            "events_per_s": _rate(now.applied, before.applied, span_s),
            "answers_per_s": _rate(now.answered, before.answered, span_s),
            "to_feature_ms": [now.figures.to_feature_ms(q, minute.figures) for q in (0.5, 0.99)],
            "to_answer_ms": [None if one is None else one * 1000 for one in answer],
            "events": now.figures.applied,
            "items": now.figures.items,
            "learned": now.figures.learned,
            "ndcg": now.figures.ndcg,
            "ndcg_popularity": now.figures.ndcg_popularity,
            "queries": now.figures.queries,
            "quality": now.quality,
            "version": now.figures.model_version,
            "held": now.figures.held,
            "weight_age_s": now.figures.weight_age_s,
            "dead_letters": now.figures.dead_letters,
            "lag": now.lag,
            "workers": now.workers,
        }

    def _charts(self) -> dict[str, str]:
        """Curves as SVG, for a desk and for a phone together: quality, and events and answers a second."""
        looks = list(self._looks)
        if len(looks) < 3:
            return {}
        looks = looks[:: -(-len(looks) // POINTS)]
        at = [one.figures.at_s - looks[-1].figures.at_s for one in looks]
        asked = [one.figures.queries for one in looks]
        quality = [
            _banded("Headwater", "s0", [one.figures.ndcg for one in looks], asked),
            _banded("Popularity", "s1", [one.figures.ndcg_popularity for one in looks], asked),
        ]
        pairs = list(pairwise(looks))
        spans = [later.figures.at_s - earlier.figures.at_s for earlier, later in pairs]
        events = [_rate(b.applied, a.applied, s) for (a, b), s in zip(pairs, spans, strict=True)]
        answers = [_rate(b.answered, a.answered, s) for (a, b), s in zip(pairs, spans, strict=True)]
        flow = [plain_line("Events/s", "s0", events), plain_line("Answers/s", "s1", answers)]
        return {
            "quality": beside_another("quality", "NDCG@10, each event predicted before it was learned", quality, at),
            "flow": beside_another("flow", "Events folded and requests answered, a second", flow, at[1:]),
        }


def _addresses(path: Path) -> dict[str, str]:
    """Name -> URL. Raises ValueError for what is no such file: nothing but HTTP is asked."""
    told = orjson.loads(path.read_bytes())
    urls = told.get("workers") if isinstance(told, dict) else None
    if not isinstance(urls, dict):
        raise ValueError(f'{path.name}: give {{"workers": {{"serving": "http://host:port"}}}}')
    for name, url in urls.items():
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise ValueError(f"{path.name}: the address of {name!r:.40} is no http:// or https://")
    return urls


def _ask(url: str) -> _SaidNow:
    try:
        status, text = http_get(f"{url}/readyz")
        measured, metrics = http_get(f"{url}/metrics") if status else (0, "")
        scrape = read_metrics(metrics) if measured == 200 else Scrape()
    except ValueError as error:
        return _SaidNow(Scrape(), f"is no worker: {error}"[:200], ready=False, measured=False)
    health = text.strip() if status else "does not answer"
    return _SaidNow(scrape, health[:200], ready=status == 200, measured=measured == 200)


def _quality(trainer: Scrape) -> dict[str, Any]:
    """Measures of the newest window by what they are of; empty where the trainer has said none yet."""
    found: dict[str, Any] = {}
    for name in MEASURES:
        several = {sample.labels["model"]: sample.value for sample in trainer.samples(f"headwater_prequential_{name}")}
        found[name] = {who: value for who, value in several.items() if not math.isnan(value)}
    judged = trainer.value("headwater_shown_items_judged_total")
    recall = trainer.value("headwater_prequential_candidate_recall")
    share = trainer.value("headwater_ranker_share")
    return found | {"judged": judged, "candidate_recall": recall, "ranker_share": share}


def _rate(now: float | None, before: float | None, span_s: float) -> float | None:
    if now is None or before is None or span_s <= 0:
        return None
    return max(0.0, now - before) / span_s


def _banded(label: str, style: str, means: list[float | None], asked: list[int]) -> Line:
    band = [None if one is None else widest_band(one, of) for one, of in zip(means, asked, strict=True)]
    return Line(label, style, means, band)


def widest_band(mean: float, asked: int) -> tuple[float, float] | None:
    """A 95% interval that is never too narrow of the mean of so many values between 0 and 1: their variance is at most
    mean * (1 - mean) (Bhatia & Davis 2000). None where too few were asked for a normal distribution.

    >>> widest_band(0.1, 2500)
    (0.08824, 0.11176)
    """
    if asked < FEW:
        return None
    off = 1.96 * math.sqrt(max(0.0, mean * (1 - mean)) / asked)
    return round(max(0.0, mean - off), 6), round(min(1.0, mean + off), 6)


def plain_line(label: str, style: str, values: list[float | None]) -> Line:
    """A series without a band."""
    return Line(label, style, values, [None] * len(values))


def beside_another(
    key: str, title: str, lines: list[Line], at: list[float], under: tuple[str, str] = ("seconds, 0 is now", "")
) -> str:
    """A chart as SVG in both of its widths, for a desk and for a phone; empty where nothing is known."""
    newest = {line.label: line.values[-1] for line in lines if line.values[-1] is not None}
    text = "; ".join(f"{name} {value:.3g} now" for name, value in newest.items()) or "nothing yet"
    if not newest:
        return ""
    return str(Markup().join(lines_chart(key, title, text, lines, at, under, width) for width in (HALF, NARROW)))
