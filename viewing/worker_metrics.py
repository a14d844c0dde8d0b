"""What a worker's /metrics says: samples, sums over labels, quantiles of histograms."""

from __future__ import annotations

import math
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

__all__ = ["Scrape", "http_get", "quantile", "read_metrics"]


MOST_BYTES = 16 << 20
"""Of an answer: a worker's metrics are some hundred times less."""


class Scrape:
    """The samples of one scrape."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._by_name: dict[str, list[Sample]] = {}
        for sample in samples:
            self._by_name.setdefault(sample.name, []).append(sample)

    def samples(self, name: str, **labels: str) -> Iterator[Sample]:
        """The samples of a name that carry these labels."""
        for sample in self._by_name.get(name, ()):
            if all(sample.labels.get(label) == value for label, value in labels.items()):
                yield sample

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples of a name that carry these labels; 0 when there is none.

        >>> read_metrics('dead_total{reason="schema"} 2.0\\ndead_total{reason="null_key"} 1.0').total("dead_total")
        3.0
        """
        return sum(sample.value for sample in self.samples(name, **labels))

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the samples of a name, or None when there is none or it is not a number."""
        found = [sample.value for sample in self.samples(name, **labels)]
        total = sum(found)
        return total if found and not math.isnan(total) else None

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """A histogram: upper bound -> observations at or below it, labels summed."""
        counts: dict[float, float] = {}
        for sample in self.samples(f"{name}_bucket", **labels):
            bound = float(sample.labels["le"])
            counts[bound] = counts.get(bound, 0.0) + sample.value
        return counts


def quantile(q: float, buckets: dict[float, float], before: dict[float, float] | None = None) -> float | None:
    """The q-quantile of a histogram, linear inside its bucket, as Prometheus' histogram_quantile; None when empty.

    `before`, an earlier scrape of the same histogram, is subtracted: the quantile of what came since.

    >>> quantile(0.5, {0.1: 0.0, 0.2: 10.0, float("inf"): 10.0})
    0.15000000000000002
    """
    counts = {bound: count - (before or {}).get(bound, 0.0) for bound, count in sorted(buckets.items())}
    total = max(counts.values(), default=0.0)
    if total <= 0:
        return None
    rank, lower, below = q * total, 0.0, 0.0
    for bound, count in counts.items():
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * ((rank - below) / (count - below) if count > below else 1.0)
        lower, below = bound, count
    return lower


def read_metrics(text: str) -> Scrape:
    """The samples of one scrape's text. Raises ValueError for text in another format."""
    return Scrape(sample for family in text_string_to_metric_families(text) for sample in family.samples)


def http_get(url: str, timeout_s: float = 2.0) -> tuple[int, str]:
    """Status and body; status 0 when nothing answers."""
    try:
        try:
            answer = urllib.request.urlopen(url, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:  # its body can fail, too
            return answer.status, answer.read(MOST_BYTES).decode(errors="replace")
    except (OSError, HTTPException) as error:
        return 0, f"no answer ({error})"
