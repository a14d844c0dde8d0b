"""What the trainer shows on /metrics.

Before: the worker's state, read when a scrape asks. After: Prometheus, the demo's view, the tests. Values that belong
to the learner's state (examples learned, duplicates) come out of the checkpoint after a restart, so that they count
every example of the log once, however often the process was killed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headwater.events import now_ms
from headwater.topics import EXAMPLES
from models.quality import Prequential

__all__ = ["TrainerMetrics"]


@dataclass(eq=False)
class TrainerMetrics(Collector):
    """The figures of one trainer; the worker's loop writes the fields, `collect` shows them.

    `prequential` is the learner's own: its summary, which costs a millisecond, is made when somebody asks, and so is
    never older than the count of examples beside it.
    """

    examples: int = 0
    examples_per_second: float = 0.0
    duplicates: int = 0
    only_duplicates_s: float = 0.0
    capped: int = 0
    let_go: Mapping[str, int] = field(default_factory=dict)
    passed_over: int = 0
    gaps: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[int, int] = field(default_factory=dict)
    lag: int = 0
    prequential: Prequential = field(default_factory=Prequential)
    version: int = 0
    published_ms: int = 0
    published: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    held_back_ms: int = 0
    compared: Mapping[str, float] = field(default_factory=dict)
    pinned: bool = False
    foreign: Mapping[tuple[str, str], int] = field(default_factory=dict)
    checkpoint_s: float = 0.0
    checkpoint_offset: int = 0
    share: float = 1.0
    rested: int = 0
    behind_s: float = 0.0
    share_decisions: Mapping[str, int] = field(default_factory=dict)
    learned_ms: int = 0

    def collect(self) -> Iterator[Metric]:
        """The metric families, in the order of an example's way."""
        yield CounterMetricFamily("headwater_examples_learned", "Examples of the log learned.", value=self.examples)
        yield GaugeMetricFamily(
            "headwater_examples_per_second", "Examples learned a second, lately.", value=self.examples_per_second
        )
        yield CounterMetricFamily(
            "headwater_example_duplicates", "Examples that were in the log twice.", value=self.duplicates
        )
        yield CounterMetricFamily(
            "headwater_examples_capped", "Examples passed over: their users do more than people can.", value=self.capped
        )
        text = "Items let go because the model has no more than max_items: of those with a row, or waiting for one."
        yield _by(CounterMetricFamily, "headwater_items_let_go", text, "had", self.let_go)
        yield from self._of_gaps()
        yield from self._of_share()
        text = "Offset in events of the newest example learned; those at or below it are duplicates."
        marks = {str(partition): offset for partition, offset in self.marks.items()}
        yield _by(GaugeMetricFamily, "headwater_learned_offset", text, "partition", marks)
        yield GaugeMetricFamily(
            "headwater_only_duplicates_seconds",
            "For how long every example that came was learned before; 0 while there is anything new.",
            value=self.only_duplicates_s,
        )
        yield _by(CounterMetricFamily, "headwater_dead_letters", "Records refused.", "reason", self.dead_letters)
        yield _by(GaugeMetricFamily, "headwater_lag", "Records waiting.", "topic", {EXAMPLES.name: self.lag})
        quality = self.prequential.summary()
        for name, text in (("ndcg_at_10", "NDCG@10"), ("hit_rate_at_10", "Hit rate@10"), ("mrr", "Reciprocal rank")):
            means = {model: mean for model, mean in quality[name].items() if mean is not None}
            text = f"{text} of examples scored before they were learned, newest window."
            yield _by(GaugeMetricFamily, f"headwater_prequential_{name}", text, "model", means)
        yield GaugeMetricFamily("headwater_prequential_queries", "Queries in that window.", value=quality["queries"])
        yield from _of_ranker(quality.get("ranker"))
        yield from _of_lists(quality.get("shown"))
        loss = quality["loss"]
        yield GaugeMetricFamily(
            "headwater_training_loss",
            "Mean loss of that window's queries.",
            value=float("nan") if loss is None else loss,
        )
        yield GaugeMetricFamily("headwater_model_version", "Newest version published.", value=self.version)
        if self.published_ms:
            age = (now_ms() - self.published_ms) / 1000
            yield GaugeMetricFamily("headwater_weight_age_seconds", "Since the newest publication.", value=age)
        yield _by(CounterMetricFamily, "headwater_publications", "Publications sent.", "kind", self.published)
        yield _by(CounterMetricFamily, "headwater_publications_refused", "By the guard.", "reason", self.refused)
        held_back_s = (now_ms() - self.held_back_ms) / 1000 if self.held_back_ms else 0.0
        text = "Since the guard lets no publication pass; 0 while it does."
        yield GaugeMetricFamily("headwater_publication_held_back_seconds", text, value=held_back_s)
        text = "NDCG@10 on the newest queries that a published model was asked, too."
        yield _by(GaugeMetricFamily, "headwater_compared_ndcg_at_10", text, "model", self.compared)
        text = "Records on the model's topics that no trainer wrote."
        foreign = CounterMetricFamily("headwater_foreign_records", text, labels=["topic", "reason"])
        for labels, count in dict(self.foreign).items():
            foreign.add_metric(labels, count)
        yield foreign
        yield GaugeMetricFamily("headwater_model_pinned", "1 while a rollback holds.", value=self.pinned)
        yield GaugeMetricFamily("headwater_checkpoint_seconds", "Time the last one took.", value=self.checkpoint_s)
        yield GaugeMetricFamily(
            "headwater_checkpoint_offset", "Record that a restart would go on at.", value=self.checkpoint_offset
        )

    def _of_gaps(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "headwater_example_gaps", "Gaps in the log of examples that were passed over by leave.", value=self.gaps
        )
        yield CounterMetricFamily(
            "headwater_examples_passed_over", "Records of examples in these gaps, known ones.", value=self.passed_over
        )

    def _of_share(self) -> Iterator[Metric]:
        """How much of what comes is learned in full."""
        text = "Share of the blocks that the slow part (encoder, gate, ranker) learns; 1 unless too much comes."
        yield GaugeMetricFamily("headwater_learning_share", text, value=self.share)
        text = "Examples that the slow part passed over: memories, popularity and counts learned them."
        yield CounterMetricFamily("headwater_examples_rested", text, value=self.rested)
        text = "How long ago the example that is learned now came into the log."
        yield GaugeMetricFamily("headwater_learning_behind_seconds", text, value=self.behind_s)
        text = "Decisions on that share that this process made."
        yield _by(CounterMetricFamily, "headwater_share_decisions", text, "why", self.share_decisions)
        if self.learned_ms:
            age_s = max((now_ms() - self.learned_ms) / 1000, 0.0)
            text = "Since the newest example that the slow part learned came into the log."
            yield GaugeMetricFamily("headwater_learned_age_seconds", text, value=age_s)


def _by(
    family: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, text: str, label: str,
    values: Mapping[str, float],
) -> Metric:  # fmt: skip
    made = family(name, text, labels=[label])
    for key, value in dict(values).items():
        made.add_metric([key], value)
    return made


def _of_ranker(ranker: dict[str, Any] | None) -> Iterator[Metric]:
    """What the second stage is worth, where it was asked."""
    if ranker is None:
        return
    both = {"headwater": ranker["ndcg_at_10"], "without ranker": ranker["ndcg_at_10_without"]}
    text = "NDCG@10 with and without the ranker, of examples scored before they were learned, newest window."
    yield _by(GaugeMetricFamily, "headwater_prequential_ranker_ndcg_at_10", text, "model", both)
    text = "Share of the queries of that window whose item was among the ranker's candidates."
    recall = ranker["candidate_recall"]
    yield GaugeMetricFamily("headwater_prequential_candidate_recall", text, value=recall)
    text = "How much of what the ranker says counts: 0 where it gains nothing, at most 1."
    yield GaugeMetricFamily("headwater_ranker_share", text, value=ranker["share"])


def _of_lists(shown: dict[str, Any] | None) -> Iterator[Metric]:
    """How well reactions to what was shown were told, where any list was shown."""
    if shown is None:
        return
    areas = {model: area for model, area in shown["auc"].items() if area is not None}
    text = "ROC-AUC of reactions to what was shown, each judged before it was learned, newest window."
    yield _by(GaugeMetricFamily, "headwater_prequential_shown_auc", text, "model", areas)
    text = "Log loss of the same."
    yield _by(GaugeMetricFamily, "headwater_prequential_shown_log_loss", text, "model", shown["log_loss"])
    yield CounterMetricFamily("headwater_shown_items_judged", "Items of shown lists, judged.", value=shown["items"])
    text = "Lists whose window was cut short, for too many were open."
    yield CounterMetricFamily("headwater_shown_lists_closed_early", text, value=shown["closed_early"])
