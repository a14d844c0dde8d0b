"""`headwater trace`: weights come as a delta or as a bundle, and where none come it says what can be found out."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator

import pytest

from console.look.tracing import Trace, trace
from console.look.unlearned import why_unlearned
from headwater.events import now_ms
from headwater.kafka import end_offsets
from headwater.process import Operations
from headwater.settings import OperationsSettings, Settings
from headwater.topics import EXAMPLES
from models.published.announcement import Announcement
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.publishing import registry, writer  # noqa: F401 - fixtures
from trainer.registry import Registry
from trainer.trainer_metrics import TrainerMetrics


def announced(version: int, examples_offset: int, *, pinned: bool = False) -> Announcement:
    return Announcement(
        version=version, digest=f"{version:064x}", bundle=f"v{version}", parent=None, delta_offset=0,
        published_time=now_ms(), examples_offset=examples_offset, metrics={}, pinned=pinned,
    )  # fmt: skip


def test_weights_may_come_as_a_bundle_that_took_the_example_and_without_any_it_says_why(
    settings: Settings, worker: Callable[..., LiveWorker], registry: Registry
) -> None:
    worker("streams.worker")
    traced: list[Trace] = []
    looks = threading.Thread(target=lambda: traced.append(trace(settings, "ada", "a", "click", 8)))
    looks.start()
    eventually(lambda: end_offsets(settings.kafka, EXAMPLES) == {0: 1})
    registry.set_live(announced(1, 0))  # made before the example was there
    registry.set_live(announced(2, 1))
    looks.join()
    (weights,) = [hop for hop in traced[0].hops if hop.name == "weights"]
    assert weights.place == f"{settings.kafka.prefix}model[0]@1"
    assert weights.text == "version 2, the first published after the example"

    unlearned = {hop.name: hop for hop in trace(settings, "ada", "a", "click", 1).hops}
    assert unlearned["example"].place is not None
    assert unlearned["weights"].place is None
    assert unlearned["weights"].text.startswith("the newest bundle is version 2; its trainer is not known here")


@pytest.fixture
def trainer() -> Iterator[Operations]:
    """What a trainer that is stuck shows to those who ask it."""
    shown = Operations("trainer", OperationsSettings(port=0))
    metrics = TrainerMetrics(examples=7, lag=3, version=2, published_ms=now_ms() - 24_000, refused={"unavailable": 2})
    shown.registry.register(metrics)
    shown.start(signals=False)
    shown.ready()
    shown.trouble("nothing could be published for 24 s: no room")
    yield shown
    shown.close()


def test_what_can_be_found_out_is_said_of_a_trainer_that_publishes_nothing(
    settings: Settings, trainer: Operations, registry: Registry
) -> None:
    workers = {"trainer": f"http://127.0.0.1:{trainer.port}", "serving": "http://127.0.0.1:9"}
    said = re.sub(r"published 2[4-9] s ago", "published 24 s ago", why_unlearned(settings, workers))
    assert said == (
        "no model is live; serving does not answer at http://127.0.0.1:9: see its log; "
        "the trainer published 24 s ago, version 2, and has learned 7 examples; 3 records of examples wait; "
        "refused publications: 2 unavailable; its /readyz says 503: nothing could be published for 24 s: no room"
    )
    registry.set_live(announced(1, 0, pinned=True))
    assert why_unlearned(settings, workers) == "a rollback holds version 1 until `headwater rollback --resume`"
