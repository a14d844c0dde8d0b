"""The demo from start to end: servers and workers, catalogue, replay with visitors, newcomer, audit, summary.

Before: `headwater demo`. After: real workers under a supervisor; whatever happens, they are stopped. Every number in
the summary comes from what the workers and servers did, none from this file.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from console.demonstration.data import DemoData
from console.demonstration.feed import Feed
from console.demonstration.newcomer import Newcomer, choose_three, shown_title
from console.demonstration.pages import Pages
from console.demonstration.summary import Summary
from console.demonstration.view import Moment, View
from console.demonstration.visitors import Visitors
from console.local.addresses import GATEWAY, Addresses, Servers, http_of, keep_written, with_page
from console.local.supervisor import WORKERS, Supervisor
from headwater.client import Client
from headwater.errors import Unavailable
from headwater.settings import Settings
from viewing.figures import Figures, read_figures

__all__ = ["Demo"]

LOOK_S = 0.25
REPLAY_UNTIL_S = 265.0
"""Seconds since the start after which no event is sent any more: the demo never takes five minutes, on no machine."""

CATCH_UP_S = 60.0
RECENT_S = 5.0
"""What `lately` means for rates and quantiles in the view."""


@dataclass
class Demo:
    """One run. `directory` is its data folder; `servers` names those that are not the embedded ones. With `page` it can
    be looked at in a browser, and stays until Ctrl-C.
    """

    directory: Path
    servers: Servers
    data: DemoData
    pages: Pages
    view: View
    started_s: float
    page: bool = False

    def __post_init__(self) -> None:
        self.summary = Summary(dataset=self.data.name)
        self.notes: list[str] = []
        self.lists = 0

    def run(self) -> Summary:
        """All of it. Raises HeadwaterError when it cannot be done; a bar that was missed is in the summary."""
        self.pages.step("data", self.data.describe())
        settings = _all_learned(self.servers.settings)
        supervisor = Supervisor(
            self.directory,
            with_page(settings, self.directory) if self.page else settings,
            embedded_kafka=self.servers.embedded_kafka,
            embedded_redis=self.servers.embedded_redis,
            say=self.notes.append,
            names=(*WORKERS, GATEWAY) if self.page else WORKERS,
        )
        self.pages.step("starting", "broker, store, and the workers: streams, trainer, serving")
        with supervisor, contextlib.ExitStack() as clients:
            if self.page:
                clients.enter_context(self._addresses_kept(supervisor))
                self.pages.step("page", f"{http_of(supervisor)}/ shows what happens now")
            self._name_servers(supervisor)
            client = clients.enter_context(Client(settings=supervisor.settings.kafka, source="demo"))
            asking = clients.enter_context(Client(settings=supervisor.settings.kafka, source="demo-visitors"))
            self._publish_catalogue(client, supervisor)
            self._replay(client, asking, supervisor)
            self._newcomer(asking, supervisor)
            self._audit(supervisor)
            self.summary.restarts = list(supervisor.restarts)
            if self.page:
                self._stay(supervisor)
        self.summary.seconds = self.summary.seconds or time.monotonic() - self.started_s
        return self.summary

    @contextlib.contextmanager
    def _addresses_kept(self, supervisor: Supervisor) -> Iterator[None]:
        """The page finds the workers by the file: also those that were started again."""
        stopping = threading.Event()
        kept = threading.Thread(target=keep_written, args=(supervisor, self.servers, stopping), name="addresses")
        kept.start()
        try:
            yield
        finally:
            stopping.set()
            kept.join()
            Addresses.remove(self.directory)

    def _stay(self, supervisor: Supervisor) -> None:
        """The summary, and then the page until Ctrl-C."""
        self.summary.seconds = time.monotonic() - self.started_s
        self.pages.summary(self.summary, "Nothing is stopped yet.")
        self.pages.stays(f"{http_of(supervisor)}/play", self.directory)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()

    def _name_servers(self, supervisor: Supervisor) -> None:
        from streams.features.store import FeatureStore

        settings = supervisor.settings
        store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
        try:
            self.summary.store = store.ping()
        finally:
            store.close()
        self.summary.broker = f"embedded broker at {settings.kafka.bootstrap}"
        if not self.servers.embedded_kafka:
            self.summary.broker = f"Kafka at {settings.kafka.bootstrap}, world {settings.kafka.prefix}"
        seconds = time.monotonic() - self.started_s
        self.pages.step("running", f"{self.summary.broker}, {self.summary.store}, three workers ({seconds:.0f} s)")

    def _publish_catalogue(self, client: Client, supervisor: Supervisor) -> None:
        items = list(self.data.catalogue.values())
        if not items:
            return
        client.put_items(items).result(30)
        _wait_until(
            lambda: read_figures(supervisor.workers).items >= len(items), "the serving worker to read the catalogue"
        )
        self.pages.step("catalogue", f"{len(items):,} items published")

    def _replay(self, client: Client, asking: Client, supervisor: Supervisor) -> None:
        def settled() -> int:
            return read_figures(supervisor.workers).settled

        feed = Feed(client, self.data.events, settled, self.started_s + REPLAY_UNTIL_S)
        visitors = Visitors(asking, feed)
        moments = _Moments(self, supervisor, feed, visitors)
        began = time.monotonic()
        feed.start()
        visitors.start()
        try:
            with self.view:
                while feed.running:
                    self.view.show(moments.now())
                    time.sleep(LOOK_S)
                if feed.error is not None:
                    raise feed.error
                visitors.stop()  # each list that goes out is an event more to wait for
                _wait_until(
                    lambda: moments.latest.settled >= feed.sent,
                    "the trainer to learn the last events",
                    meanwhile=lambda: self.view.show(moments.now()),
                )
        finally:
            feed.stop()
            visitors.stop()
        seconds = time.monotonic() - began
        self._count(feed, visitors, seconds)
        self.pages.step("replayed", f"{feed.sent:,} events in {seconds:.0f} s, {feed.sent / seconds:,.0f} a second")
        if feed.cut_short:
            self.pages.step(
                "", f"stopped there: {self.data.total - feed.sent:,} more would take over five minutes here"
            )

    def _count(self, feed: Feed, visitors: Visitors, seconds: float) -> None:
        summary = self.summary
        summary.events_produced = feed.sent
        summary.events_per_second = feed.sent / seconds
        summary.cut_short = feed.cut_short
        summary.requests_sent, summary.requests_answered = visitors.sent, visitors.answered
        self.lists = visitors.lists
        summary.request_to_reply_ms = {"p50": visitors.latency_ms(0.5), "p99": visitors.latency_ms(0.99)}
        self.by_frequency = [item for item, _ in feed.items.most_common(20)]
        for failure in sorted(set(visitors.failures))[:3]:
            self.pages.step("", f"a request failed: {failure}")

    def _newcomer(self, client: Client, supervisor: Supervisor) -> None:
        figures = read_figures(supervisor.workers)
        summary, catalogue = self.summary, self.data.catalogue
        summary.ndcg_at_10 = {"headwater": figures.ndcg, "popularity": figures.ndcg_popularity}
        summary.queries = figures.queries
        summary.event_to_feature_ms = {"p50": figures.to_feature_ms(0.5), "p99": figures.to_feature_ms(0.99)}
        newcomer = Newcomer(client)
        try:
            first = newcomer.first_list()
            self.pages.newcomer(newcomer.user, first, catalogue)
            now = first
            for click in newcomer.clicks(choose_three(catalogue, self.by_frequency), first):
                summary.click_to_changed_ms.append(click.ms)
                self.pages.reaction(click, catalogue)
                now = click.after
            dismissal = newcomer.dismisses(now)
            summary.dismissal_to_changed_ms = dismissal.ms
            self.pages.reaction(dismissal, catalogue)
            self.pages.rows(newcomer.rows(), catalogue)
            takedown = newcomer.sees_taken_down(dismissal.after)
            summary.takedown_to_changed_ms = takedown.ms
            self.pages.reaction(takedown, catalogue)
        finally:
            summary.events_produced += newcomer.events
            summary.requests_sent += newcomer.asked
            summary.requests_answered += newcomer.answered
            self.lists += newcomer.lists

    def _audit(self, supervisor: Supervisor) -> None:
        from console.demonstration.auditing import audit_all

        summary = self.summary
        summary.exposures = self.lists if supervisor.settings.serving.exposures else 0

        def settled() -> bool:
            figures = read_figures(supervisor.workers)
            return figures.exposures >= summary.exposures and figures.settled >= summary.events_produced

        _wait_until(settled, "the trainer to learn what the newcomer did and was shown")
        figures = read_figures(supervisor.workers)
        summary.events_applied, summary.duplicates = figures.applied - figures.exposures, figures.duplicates
        summary.dead_letters = figures.dead_letters
        summary.model_versions_published = figures.published
        if self.page:  # a person may click there meanwhile
            of_all = summary.events_applied + summary.duplicates + summary.dead_letters
            summary.events_of_people = max(0, of_all - summary.events_produced)
        summary.audit = audit_all(supervisor.settings, summary, alone=not self.page)


class _Moments:
    """What the view shows, put together from scrapes, feed and visitors; keeps the scrapes of the last seconds."""

    def __init__(self, demo: Demo, supervisor: Supervisor, feed: Feed, visitors: Visitors) -> None:
        self.latest = Figures()
        self._demo, self._supervisor, self._feed, self._visitors = demo, supervisor, feed, visitors
        self._began_s = time.monotonic()
        self._past: deque[tuple[Figures, int]] = deque()

    def now(self) -> Moment:
        """Ask the workers, and put together what is shown."""
        feed, visitors = self._feed, self._visitors
        self.latest = read_figures(self._supervisor.workers)
        self._past.append((self.latest, feed.sent))
        while len(self._past) > 2 and self.latest.at_s - self._past[0][0].at_s > RECENT_S:
            self._past.popleft()
        before, sent_before = self._past[0]
        span_s = self.latest.at_s - before.at_s
        date = datetime.fromtimestamp(feed.newest_ms / 1000, UTC).strftime("%d %b %Y") if feed.newest_ms else ""
        return Moment(
            figures=self.latest,
            before=before if span_s > 0 else None,
            sent=feed.sent,
            total=self._demo.data.total,
            elapsed_s=self.latest.at_s - self._began_s,
            events_per_s=(feed.sent - sent_before) / span_s if span_s > 0 else 0.0,
            stream_date=date,
            requests=visitors.sent,
            answered=visitors.answered,
            reply_p50_ms=visitors.latency_ms(0.5, 100),
            reply_p99_ms=visitors.latency_ms(0.99, 300),
            shown=self._shown(),
            notes=self._demo.notes,
        )

    def _shown(self) -> list[tuple[str, str]]:
        catalogue = self._demo.data.catalogue
        by_user = {shown.user: shown for shown in list(self._visitors.latest) if shown.answer.items}
        return [
            (
                f"{shown.user}, after {shown_title(shown.item, catalogue)}",
                " · ".join(shown_title(item.item_id, catalogue) for item in shown.answer.items[:3]),
            )
            for shown in list(by_user.values())[:4]
        ]


def _wait_until(condition: Callable[[], bool], what: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Look again and again until a condition holds. Raises Unavailable after CATCH_UP_S."""
    deadline_s = time.monotonic() + CATCH_UP_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise Unavailable(f"waited over {CATCH_UP_S:.0f} s for {what}. The workers' logs say more.")
        meanwhile()
        time.sleep(LOOK_S)


def _all_learned(settings: Settings) -> Settings:
    """Everything is learned in full: the feed waits for the trainer, and how well that tells what comes is shown."""
    trainer = settings.trainer.model_copy(update={"keep_up_s": 0.0})
    return settings.model_copy(update={"trainer": trainer})
