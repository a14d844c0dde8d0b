"""What the workers have counted since they started that nobody would count in a system that is well: one note each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from console.look.finding import Finding
from viewing.worker_metrics import Scrape

__all__ = ["counted"]


class _Counter(NamedTuple):
    worker: str
    metric: str
    what: str
    remedy: str


COUNTERS = (
    _Counter("streams", "headwater_damaged_keys_total", "keys of the store held what no worker wrote",
             "its log names them; find out who writes to that Redis"),
    _Counter("streams", "headwater_records_gone_total", "records were deleted from the log before they were folded",
             "raise retention.ms of that topic, or run more streams workers"),
    _Counter("streams", "headwater_store_went_back_total", "times the store held less than was written to it",
             "see that Redis keeps its data (appendonly yes); what was lost is folded again"),
    _Counter("trainer", "headwater_examples_capped_total", "examples of users who do more than people can, not learned",
             "a crawler? Leave it out at the source; for people so quick raise model.overrides.teach_per_minute"),
    _Counter("trainer", "headwater_items_let_go_total", "items were let go to make room for new ones: are these junk?",
             "find who sends them (`headwater tail events`), set model.overrides.admit_after = 3, so that an id has to "
             "come three times; a catalogue that is so large takes more model.overrides.max_items"),
    _Counter("trainer", "headwater_example_gaps_total", "gaps in the log of examples were passed over, by leave",
             "what was in them is not learned; its checkpoint and `headwater_examples_passed_over_total` say how much"),
    _Counter("serving", "headwater_not_finite_scores_total", "scores were no numbers and were left out",
             "`headwater rollback` to an older model, and report it"),
    _Counter("serving", "headwater_items_refused_total", "catalogue records could not be read",
             "its log names them; send these items again"),
    _Counter("serving", "headwater_items_failed_total", "items were skipped for a fault of ours",
             "report it with its log"),
    _Counter("serving", "headwater_features_unavailable_total", "batches were answered without features",
             "Redis did not answer then; see its log"),
)  # fmt: skip


def counted(now: Mapping[str, Scrape]) -> Iterator[Finding]:
    """A note for each counter that is above 0."""
    for one in COUNTERS:
        count = now[one.worker].total(one.metric) if one.worker in now else 0
        if count:
            name = one.metric.removeprefix("headwater_").removesuffix("_total").replace("_", " ")
            text = f"since it started: {count:,.0f} {one.what}"
            yield Finding(f"{one.worker}: {name}", "note", text, one.remedy, {"count": count})
