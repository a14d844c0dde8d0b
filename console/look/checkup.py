"""What `headwater doctor` looks at, in the order of an event's way, from servers to processors and packages.

Each check asks the real thing: a provider is what a session really got, a version is what the server said. What could
not be looked at is said, and never taken for what is not there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.local.addresses import Addresses
from console.look import counters, flow, machine, newest, processors, weights
from console.look.cluster import TopicState, group_lags, misspelt_topics, open_admin, topic_states
from console.look.finding import Finding, spelled, unseen
from console.look.keeping import removals, retention
from headwater.errors import HeadwaterError, SettingsError, StoreDamaged, Unavailable
from headwater.kafka import end_offsets
from headwater.settings import KafkaSettings, Settings
from headwater.topics import DEAD_LETTERS, EVENTS, EXAMPLES, MODEL, MODEL_DELTAS
from viewing.worker_metrics import Scrape, http_get

if TYPE_CHECKING:
    from streams.features.store import FeatureStore

__all__ = ["Finding", "examine"]

LAG_NOTE = 10_000
"""A group that is further behind than this gets a note; a running worker clears it in seconds."""


def examine(settings: Settings, running: Addresses | None) -> list[Finding]:
    """Every check; a check whose server is away is left out, since that server's own finding tells."""
    findings = [_running(settings, running)]
    if running is not None and not running.serves(settings):
        running = None
    states: list[TopicState] = []
    findings += _seen("broker", lambda: _broker_and_topics(settings, states))
    findings += _seen("store", lambda: _store(settings))
    servers = [finding for finding in findings if finding.name in ("broker", "store")]
    away = {finding.name for finding in servers if finding.state in ("wrong", "unseen")}
    before: list[flow.Standing] = []
    metrics = weights.scrapes(running.workers if running else {})
    if not away:
        findings += _seen("reading", lambda: _remembered(before, flow.stands(settings)))
    if "broker" not in away:
        findings += _topics(settings, states)
        findings += _seen("surfaces", lambda: _surfaces(settings))
    findings += _workers(running)
    findings += processors.processors(settings)
    findings += machine.disks(_folders(settings, running))
    if not away:
        findings += _seen("clocks", lambda: [machine.clocks(settings)])
    later = weights.scrapes(running.workers if running else {})
    if before:  # last, so that a worker that gets on has had the time to
        findings += _seen("reading", lambda: _flow(settings, before[0], metrics, later))
    findings += weights.publications(metrics, later)
    findings += weights.counted_duplicates(metrics, later)
    findings += counters.counted(later)
    return findings


def _flow(
    settings: Settings, before: flow.Standing, metrics: dict[str, Scrape], later: dict[str, Scrape]
) -> Iterator[Finding]:
    states = topic_states(settings.kafka)
    deltas = next(state for state in states if state.topic.name == MODEL_DELTAS.name)
    published_ms, _ = newest.newest_deltas(settings, deltas)
    events = next(state for state in states if state.topic.name == EVENTS.name)
    yield from weights.learned_beyond(later.get("trainer"), events.partitions)
    moving = {"trainer"} if weights.learning(metrics, later, published_ms) else set()
    yield from flow.flow(settings, states, before, moving)


def _remembered(before: list[flow.Standing], now: flow.Standing) -> list[Finding]:
    before.append(now)
    return []


def _seen(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of a check; what it could not look at is one, too."""
    from kafka.errors import KafkaError

    found: list[Finding] = []
    try:
        found.extend(check())
    except (HeadwaterError, KafkaError) as error:
        found.append(unseen(name, error))
    return found


def _running(settings: Settings, running: Addresses | None) -> Finding:
    unasked = "servers as the settings say; /readyz and /metrics of their workers are not asked"
    if running is None:
        return Finding("up", "ok", f"no `headwater up` runs on this folder; {unasked}")
    text = f"`headwater up` runs on {running.data}, process {running.pid}"
    text += "" if running.workers else ", broker and store alone: --servers-only"
    if not running.serves(settings):
        text += f", for another world (prefix {running.prefix!r} at {running.kafka}); {unasked}"
    return Finding("up", "ok", text, detail={"pid": running.pid, "data": running.data})


def _folders(settings: Settings, running: Addresses | None) -> list[Path]:
    """Where our own data lie on this machine."""
    own = [Path(running.data)] if running else []
    bundles = settings.trainer.bundles
    return [*own, settings.trainer.directory, *([bundles] if isinstance(bundles, Path) else [])]


def _broker_and_topics(settings: Settings, states: list[TopicState]) -> Iterator[Finding]:
    """The broker and its topics; `states` takes what is there."""
    kafka = settings.kafka
    try:
        yield _broker(settings)
        states += topic_states(kafka)
    except Unavailable as error:
        yield Finding("broker", "wrong", f"none answers at {kafka.bootstrap}", _remedy(error))
        return
    denied = [state.name for state in states if state.denied]
    if denied:
        yield Finding(
            "topics", "unseen", f"this Kafka user may not see {', '.join(denied)}",
            "kafka-acls --add --operation Describe --operation Read --topic ... for it, or run doctor as another user",
            {"denied": denied}, "no Describe on them: whether they are there is not known",
        )  # fmt: skip
    missing = [state.name for state in states if not state.partitions and not state.denied]
    records = sum(state.records for state in states)
    detail: dict[str, Any] = {"missing": missing, "denied": denied, "records": records}
    if missing:
        remedy = "start the workers (`headwater up`): they make what is missing"
        yield Finding("topics", "wrong", f"missing: {', '.join(missing)}", remedy, detail)
    elif not denied:
        yield Finding("topics", "ok", f"all {len(states)} are there, {records:,} records", detail=detail)


def _topics(settings: Settings, states: list[TopicState]) -> Iterator[Finding]:
    """What the topics hold, and who reads them. Those that are missing or not shown were told of."""
    there = {state.topic.name: state for state in states if state.partitions}
    yield from _seen("lag", lambda: _lags(settings, states))
    yield from _seen("misspelt topics", lambda: _misspelt(settings.kafka))
    yield from _seen("removals", lambda: removals(settings.kafka, [state.name for state in there.values()]))
    yield from _seen("retention", lambda: retention(settings.kafka, [state.name for state in there.values()]))
    if EVENTS.name in there:
        yield from _seen(EVENTS.name, lambda: newest.newest_events(settings, there[EVENTS.name]))
    if DEAD_LETTERS.name in there:
        yield from _seen("refusals", lambda: [newest.refusals(settings.kafka, there[DEAD_LETTERS.name])])
    if {EXAMPLES.name, EVENTS.name} <= there.keys():
        pair = there[EXAMPLES.name], there[EVENTS.name]
        yield from _seen(EXAMPLES.name, lambda: newest.newest_examples(settings, *pair))
    if {MODEL.name, MODEL_DELTAS.name, EXAMPLES.name, EVENTS.name} <= there.keys():
        yield from _seen("model", lambda: _model(settings, there))


def _misspelt(kafka: KafkaSettings) -> Iterator[Finding]:
    for name, like in sorted(misspelt_topics(kafka).items()):
        yield Finding(
            f"topic {name}", "note", f"it holds records and nobody reads it; did somebody mean {like}?",
            f"send them to {like}, and delete {name}", {"like": like}, "a producer names another topic",
        )  # fmt: skip


def _remedy(error: Unavailable) -> str:
    return str(error).partition("). ")[2] or str(error)


def _broker(settings: Settings) -> Finding:
    with open_admin(settings.kafka) as admin:
        cluster = admin.describe_cluster()
        brokers = cluster["brokers"]
        versions = {key.name: list(span) for key, span in admin.api_versions().items()}
        embedded = str(cluster["cluster_id"]).startswith("embedded-")
        known = admin.get_broker_version_data(brokers[0]["broker_id"])
        version = ".".join(map(str, getattr(known, "broker_version", ()) or ()))
    kind = "embedded broker" if embedded else f"Kafka {version} or newer".replace("Kafka  or", "Kafka, unknown or")
    text = f"{kind} at {settings.kafka.bootstrap}; cluster {cluster['cluster_id']}, {len(brokers)} broker(s)"
    text += f", {len(versions)} kinds of request"
    detail = {"kind": "embedded" if embedded else "kafka", "cluster": cluster, "api_versions": versions}
    return Finding("broker", "ok", text, detail=detail)


def _lags(settings: Settings, states: list[TopicState]) -> Iterator[Finding]:
    lags = group_lags(settings.kafka, states)
    text = ", ".join(f"{lag.group} on {lag.topic}: {lag.lag:,}" for lag in lags) or "no group has read anything yet"
    detail = {"groups": [lag.__dict__ for lag in lags]}
    behind = [lag for lag in lags if lag.lag > LAG_NOTE]
    if behind:
        remedy = "is its worker running? See its log and /readyz"
        yield Finding("lag", "note", text, remedy, detail)
    else:
        yield Finding("lag", "ok", text, detail=detail)


def _surfaces(settings: Settings) -> Iterator[Finding]:
    """Nothing where there are none."""
    from serving.surfaces.kept import surfaces_kept

    kept = surfaces_kept(settings)
    text = f"{len(kept.named)} named: {', '.join(sorted(kept.named)[:10])}"
    if kept.refused:
        remedy = "`headwater surfaces set` writes a good one over each, `remove` takes it out; the last good ones stay"
        told = f"{len(kept.refused)} records of the topic are no surface, first {kept.refused[0]}"
        yield Finding("surfaces", "wrong", told, remedy, {"refused": kept.refused})
    elif kept.named:
        yield Finding("surfaces", "ok", text, detail={"named": sorted(kept.named)})


def _model(settings: Settings, there: dict[str, TopicState]) -> Iterator[Finding]:
    from console.look.models_listed import foreign_text, signatures
    from models.published.signing.trust import trust_of
    from models.published.stores import open_store
    from trainer.announced import models_listed

    listed = models_listed(settings)
    live, snapshots = listed.live, listed.snapshots
    if listed.foreign:
        remedy = "find out who writes there; the topic is the trainer's alone"
        yield Finding("model topic", "note", foreign_text(listed), remedy, {"foreign": listed.foreign})
    yield from signatures(settings, listed)
    published_ms, foreign = newest.newest_deltas(settings, there[MODEL_DELTAS.name])
    yield from foreign
    if live is not None:
        published_ms = max(published_ms, live.published_time)
    yield from weights.stale(settings, there, published_ms, pinned=live is not None and live.pinned)
    if live is None:
        yield Finding(
            "model", "note", "none published yet", "is the trainer running? Until then answers are what is popular"
        )
        return
    age_s = time.time() - live.published_time / 1000
    text = f"bundle of version {live.version} is live, announced {age_s:,.0f} s ago; {len(snapshots)} snapshots"
    detail = {"live": live.model_dump(), "snapshots": len(snapshots)}
    try:
        open_store(settings.serving.bundles, trust_of(settings)).read(live.bundle)
    except Unavailable as error:
        remedy = "workers go on with what they hold; new ones wait, and answer with popular items, until it is back"
        yield Finding("bundles", "wrong", f"the store of bundles does not answer: {error}", remedy, detail)
    except HeadwaterError as error:
        remedy = "point serving.bundles to where trainer.bundles is, or wait for its next snapshot"
        yield Finding("model", "wrong", f"{text}, but: {error}", remedy, detail)
        return
    if live.pinned:
        yield Finding("model", "note", f"{text}; pinned", "`headwater rollback --resume` ends it", detail)
    else:
        yield Finding("model", "ok", text, detail=detail)


def _store(settings: Settings) -> Iterator[Finding]:
    from streams.features.marks import another_log
    from streams.features.store import FeatureStore

    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        version = store.ping()
        store.read_users([])  # whatever all features depend on: it raises StoreDamaged
        standing = store.standing(EVENTS)
        marks = standing.marks()
        folded = ", ".join(f"[{partition}]@{offset}" for partition, offset in sorted(marks.items())) or "nothing yet"
        slots = f", {store.slots.count} slots" if store.slots.count > 1 else ""
        text = f"{version} at {store.address}{slots}; events folded up to {folded}"
        behind = sorted(standing.behind())
        detail: dict[str, Any] = {"version": version, "marks": marks_json(marks), "slots": store.slots.count}
        detail["behind"] = behind
        ends: dict[int, int] = {}
        with contextlib.suppress(Unavailable):  # the broker's own finding tells
            ends = end_offsets(settings.kafka, EVENTS)
        wrong = another_log(standing.highest(), ends, settings.kafka)
        if wrong is not None:
            yield Finding("store", "wrong", f"{text}, but {wrong.what}", wrong.remedy, detail)
        elif behind:
            several = ", ".join(map(str, behind[:8])) + (", ..." if len(behind) > 8 else "")
            which = "1 slot has" if len(behind) == 1 else f"{len(behind)} slots have"
            lost = f"{text}; {which} lost writes ({several}): to be filled again from the log"
            yield Finding("store", "note", lost, "let a streams worker run; look why nodes lost what they had", detail)
        else:
            yield Finding("store", "ok", text, detail=detail)
        yield from _under_way(store)
        letters = store.dead_letters()
        counted = f"{spelled(letters)}, ever since" if letters else "none"
        yield Finding("dead letters", "ok", counted, detail={"by_reason": letters})
    except StoreDamaged as error:
        yield Finding("store", "wrong", error.what, error.remedy)
    except SettingsError as error:
        what, _, remedy = str(error).partition(" Set HEAD")
        yield Finding("store", "wrong", what, f"set HEAD{remedy}")
    except Unavailable as error:
        yield Finding("store", "wrong", str(error).partition("). ")[0] + ")", _remedy(error))
    finally:
        store.close()


def _under_way(store: FeatureStore) -> Iterator[Finding]:
    """What makes the store again, or was killed while it did."""
    if told := store.rebuilding():
        yield Finding(
            "rebuild",
            "note",
            f"features are being made again from the log ({told}): users who are not back yet are answered by "
            "fallbacks, and the receipt of each answer says so (fallback, feature_offsets)",
            "let `headwater rebuild features` end, then start the streams workers",
        )
    if backup := store.restoring():
        yield Finding(
            "restore",
            "wrong",
            f"a restore of backup {backup:.100} has not ended: what the store holds is not whole",
            f"let `headwater restore` end; where none runs, run it again, --clear --name {backup:.100}",
        )
    if store.clearing() is not None:
        yield Finding(
            "rebuild",
            "wrong",
            "the store is being emptied, or that was cut short: what it holds is not whole",
            "let `headwater rebuild features` end; where none runs, run it again",
        )


def marks_json(marks: dict[int, int]) -> dict[str, int]:
    """Partition -> offset with keys as JSON wants them."""
    return {str(partition): offset for partition, offset in marks.items()}


def _workers(running: Addresses | None) -> Iterator[Finding]:
    if running is None:
        return
    for name, url in running.workers.items():
        status, body = http_get(f"{url}/readyz")
        said = body.strip()
        if status == 200 and said != "ready":
            yield Finding(name, "note", said, f"its log is in {running.data}/logs", {"url": url})
        elif status == 200:
            yield Finding(name, "ok", f"ready; {url}/metrics", detail={"url": url})
        else:
            remedy = f"its log is in {running.data}/logs"
            yield Finding(name, "wrong", f"not ready: {said}", remedy, {"url": url})
