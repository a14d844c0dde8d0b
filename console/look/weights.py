"""Whether what is learned reaches the answers: age of the published weights, publications that are held back, workers
that take everything for known.

The topics say what is published; the workers' own /metrics, where they are known, say why not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from console.look.cluster import TopicState
from console.look.finding import Finding, ago, spelled
from console.look.newest import ago_ms
from headwater.errors import InvalidMessage
from headwater.examples import Example, unpack
from headwater.kafka import BoundedReader, Span
from headwater.settings import Settings
from headwater.topics import EVENTS, EXAMPLES
from viewing.worker_metrics import Scrape, http_get, read_metrics

__all__ = ["counted_duplicates", "learned_beyond", "learning", "publications", "scrapes", "stale"]

STALE_S = 60.0
"""An example may wait for so long until published weights know it."""

LATELY_S = 15.0
"""A trainer that learns publishes every second or so."""

MOST_RECORDS = 200
FEW = 20
MOST_DUPLICATES = 0.9


def scrapes(workers: Mapping[str, str]) -> dict[str, Scrape]:
    """Worker -> its metrics now; those that do not answer are left out."""
    found = {}
    for name, url in workers.items():
        try:
            status, body = http_get(f"{url}/metrics")
            if status == 200:
                found[name] = read_metrics(body)
        except (OSError, ValueError):
            continue
    return found


def stale(settings: Settings, states: Mapping[str, TopicState], published_ms: int, pinned: bool) -> Iterator[Finding]:
    """Whether an event that was folded a while ago is in no weights yet.

    Parameters
        states: by the topic's name in the table.
        published_ms: when the newest bundle or delta was published; 0 for none.
        pinned: a rollback holds, so that old weights are meant.
    """
    if pinned or not states[EXAMPLES.name].records:
        return
    waiting_ms = _first_unlearned(settings, states, published_ms)
    if waiting_ms is None or time.time() - waiting_ms / 1000 < STALE_S:
        return
    age = f"the newest weights are {ago_ms(published_ms)} old" if published_ms else "no weights are published"
    yield Finding(
        "weights",
        "wrong",
        f"{age}, and events of {ago_ms(waiting_ms)} ago are in none",
        "see the finding of the trainer, its log and /readyz; answers come from old weights meanwhile",
        {"published_ms": published_ms, "waiting_ms": waiting_ms},
        "the trainer is away, behind, or may not publish",
    )


def _first_unlearned(settings: Settings, states: Mapping[str, TopicState], published_ms: int) -> int | None:
    """When the first event was sent whose example came after the newest publication; None when there is none.

    The time of the event's own record counts: an example that is sent again after a crash was learned before.
    """
    with BoundedReader(settings.kafka, states[EXAMPLES.name].topic) as reader:
        for span in reader.spans(first_ms=published_ms + 1):
            until = min(span.end, span.first + MOST_RECORDS)
            for record in reader.records(Span(span.partition, span.oldest, span.first, until)):
                sent_ms = _sent_ms(settings, states[EVENTS.name], record.value)
                if sent_ms is not None and sent_ms > published_ms:
                    return sent_ms
    return None


def _sent_ms(settings: Settings, events: TopicState, value: bytes | None) -> int | None:
    """The time of the event that the first example of a record was made of; None when it has none, or that is gone."""
    try:
        first = next((one for one in unpack(value or b"") if isinstance(one, Example)), None)
    except InvalidMessage:
        return None
    begin, end = events.partitions.get(-1 if first is None else first.partition, (0, 0))
    if first is None or not begin <= first.position.offset < end:
        return None
    at = first.position.offset
    with BoundedReader(settings.kafka, events.topic) as reader:
        record = next(iter(reader.records(Span(first.partition, begin, at, at + 1))), None)
    return None if record is None else int(record.timestamp)


def publications(before: Mapping[str, Scrape], now: Mapping[str, Scrape]) -> Iterator[Finding]:
    """What the guard or the disk holds back: refused between two looks, or held back as the trainer itself says."""
    trainer, then = now.get("trainer"), before.get("trainer")
    if trainer is None:
        return
    refused = _by(trainer, "headwater_publications_refused_total", "reason")
    lately = {reason: int(count - _by(then, "headwater_publications_refused_total", "reason").get(reason, 0))
              for reason, count in refused.items()} if then else {}  # fmt: skip
    lately = {reason: count for reason, count in lately.items() if count}
    held_s = trainer.value("headwater_publication_held_back_seconds") or 0.0
    detail: dict[str, Any] = {"refused": refused, "refused_between_looks": lately, "held_back_s": held_s}
    if lately or held_s:
        yield Finding(
            "publications",
            "wrong",
            f"the trainer's publications are refused{f', for {ago(held_s)} now' if held_s else ''}; since it started: "
            f"{spelled({name: int(count) for name, count in refused.items()}) or 'none before'}",
            "its /readyz says by how much; the last good model serves meanwhile. `headwater rollback` lists others",
            detail,
            "regression: the model has become worse than what serves; parity, not_finite: it is broken; unavailable: "
            "Kafka takes none; disk, store: the folder or the object storage of trainer.bundles takes no bundle",
        )
    yield from _too_much(trainer)
    for name, scrape in now.items():
        foreign = _by(scrape, "headwater_foreign_records_total", "topic")
        if any(foreign.values()):
            yield Finding(
                f"{name}: foreign records", "note",
                f"passed over since it started: {spelled({topic: int(count) for topic, count in foreign.items()})}",
                "find out who writes there: these topics are for our own workers alone", {"foreign": foreign},
            )  # fmt: skip
    yield from _not_followed(then, now.get("serving"))


def _too_much(trainer: Scrape) -> Iterator[Finding]:
    """Whether more comes than is learned: in part, so that it keeps up, or in full and ever later."""
    share, behind_s = (trainer.value(f"headwater_learning_{name}") for name in ("share", "behind_seconds"))
    if share is None or behind_s is None:  # of an earlier release
        return
    rested = int(trainer.total("headwater_examples_rested_total"))
    age_s = trainer.value("headwater_learned_age_seconds")
    detail = {"share": share, "behind_s": behind_s, "rested": rested, "learned_age_s": age_s}
    if behind_s > STALE_S:
        yield Finding(
            "trainer: behind", "wrong",
            f"it learns what came {ago(behind_s)} ago: weights look fresh and are not",
            "give it more of the machine, or set trainer.keep_up_s above 0 and restart it; after a long stop it passes",
            detail, "more comes than can be learned, or it was away for long",
        )  # fmt: skip
    if share < 1:
        learned = "none yet" if age_s is None else f"{ago(age_s)} ago"
        yield Finding(
            "trainer: share", "note",
            f"more comes than can be learned: the slow part learns {share:.1%} of the blocks, {learned} the last; "
            f"{rested:,} examples were only counted so far",
            "memories, popularity and counts take all of it. Where it lasts: more cores, or a GPU, for the trainer",
            detail, "a burst, a feed of old events, or a machine that is too small",
        )  # fmt: skip


def _not_followed(trainer: Scrape | None, serving: Scrape | None) -> Iterator[Finding]:
    """Whether serving still answers with older weights than the trainer had published at the first look."""
    if trainer is None or serving is None or trainer.value("headwater_model_pinned"):
        return
    published, served = trainer.value("headwater_model_version"), serving.value("headwater_model_version")
    age_s = serving.value("headwater_weight_age_seconds") or 0.0
    if published and served is not None and served < published and age_s > STALE_S:
        yield Finding(
            "serving: weights", "wrong",
            f"it answers with version {served:.0f}, {ago(age_s)} old; version {published:.0f} is published",
            "see its log for bundles or deltas that it refuses; is serving.bundles what trainer.bundles is?",
            {"served": served, "published": published}, "it does not follow the trainer's publications",
        )  # fmt: skip


def learned_beyond(trainer: Scrape | None, ends: Mapping[int, tuple[int, int]]) -> Iterator[Finding]:
    """Whether the trainer has marks at or beyond the end of `events`: it would take all that comes for duplicates.

    Parameters
        ends: begin and end offset of `events` by partition.
    """
    marks = {int(name): int(at) for name, at in _by(trainer, "headwater_learned_offset", "partition").items()}
    beyond = {partition: at for partition, at in marks.items() if at >= ends.get(partition, (0, 0))[1]}
    if beyond:
        told = ", ".join(
            f"events[{one}] up to @{at}, which ends at {ends.get(one, (0, 0))[1]}" for one, at in beyond.items()
        )
        yield Finding(
            "trainer: duplicates", "wrong", f"the trainer has learned {told}: it drops all examples of it",
            COUNTED[1].remedy, {"beyond": beyond},
            "a record on `examples` named events that do not exist, or `events` was made anew",
        )  # fmt: skip


def learning(before: Mapping[str, Scrape], now: Mapping[str, Scrape], published_ms: int) -> bool:
    """Whether the trainer gets on: by its counters, or where these are not known by what it has published just now."""
    if "trainer" not in now or "trainer" not in before:
        return time.time() - published_ms / 1000 < LATELY_S
    taken = [one["trainer"].total(COUNTED[1].taken) + one["trainer"].total(COUNTED[1].dropped) for one in (before, now)]
    return taken[1] > taken[0]


@dataclass(frozen=True)
class _Counted:
    """Which counters of a worker tell what it took and what it dropped."""

    worker: str
    taken: str
    dropped: str
    what: str
    remedy: str


COUNTED = (
    _Counted(
        "streams", "headwater_events_applied_total", "headwater_duplicates_total", "events",
        "give each event an event_id of its own, or none; a file that is replayed again does no harm",
    ),
    _Counted(
        "trainer", "headwater_examples_learned_total", "headwater_example_duplicates_total", EXAMPLES.name,
        "a record on `examples` may have named positions that do not exist; go back to an older checkpoint, or move "
        "trainer.directory away to learn the log anew",
    ),
)  # fmt: skip


def counted_duplicates(before: Mapping[str, Scrape], now: Mapping[str, Scrape]) -> Iterator[Finding]:
    """Workers that drop (nearly) all that comes as known: between two looks, or since they started."""
    for one in COUNTED:
        if one.worker not in now:
            continue
        taken, dropped = now[one.worker].total(one.taken), now[one.worker].total(one.dropped)
        then = before.get(one.worker)
        lately_taken = taken - then.total(one.taken) if then else 0.0
        lately_dropped = dropped - then.total(one.dropped) if then else 0.0
        all_lately = lately_dropped > 0 and not lately_taken
        if all_lately or (dropped >= FEW and dropped >= MOST_DUPLICATES * (taken + dropped)):
            yield Finding(
                f"{one.worker}: duplicates", "wrong",
                f"it drops {one.what} as duplicates: {dropped:,.0f} of {taken + dropped:,.0f}"
                + (f", and all {lately_dropped:,.0f} that came while this looked" if all_lately else ""),
                one.remedy, {"dropped": dropped, "taken": taken}, f"it takes {one.what} for ones that it had before",
            )  # fmt: skip


def _by(scrape: Scrape | None, name: str, label: str) -> dict[str, float]:
    """The samples of a name, summed by one of their labels."""
    found: dict[str, float] = {}
    for sample in scrape.samples(name) if scrape else ():
        found[sample.labels[label]] = found.get(sample.labels[label], 0.0) + sample.value
    return found
