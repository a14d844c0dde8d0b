"""Why no weights came that know an example: what the topic `model`, and the workers where they are known, can tell.

Before: a trace whose example was written and that saw no publication in time. After: the text of its hop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from console.look.finding import ago, spelled
from console.look.weights import scrapes
from headwater.settings import Settings
from headwater.topics import EXAMPLES
from trainer.announced import models_listed
from viewing.worker_metrics import Scrape, http_get

__all__ = ["why_unlearned"]

SLOW_S = 5.0
"""A trainer makes progress many times a second."""


def why_unlearned(settings: Settings, workers: Mapping[str, str]) -> str:
    """What can be found out, in one line.

    Parameters
        settings: where Kafka is.
        workers: name -> URL of /metrics and /readyz; empty where they are not known.

    Raises
        Unavailable: Kafka does not answer.
    """
    live = models_listed(settings).live
    if live is not None and live.pinned:
        return f"a rollback holds version {live.version} until `headwater rollback --resume`"
    newest = "no model is live" if live is None else f"the newest bundle is version {live.version}"
    told = list(_of_workers(workers)) if workers else ["its trainer is not known here: look at its /readyz and log"]
    return "; ".join([newest, *told])


def _of_workers(workers: Mapping[str, str]) -> Iterator[str]:
    found = scrapes(workers)
    for name in ("trainer", "serving"):
        if name in workers and name not in found:
            yield f"{name} does not answer at {workers[name]}: see its log"
    if "trainer" in found:
        yield from _of_trainer(found["trainer"])
        status, said = http_get(f"{workers['trainer']}/readyz")
        yield f"its /readyz says {status}: {said.strip()}"
    if "serving" in found:
        yield f"serving answers with version {found['serving'].value('headwater_model_version') or 0:.0f}"


def _of_trainer(trainer: Scrape) -> Iterator[str]:
    age_s = trainer.value("headwater_weight_age_seconds")
    age = "has published nothing yet" if age_s is None else f"published {ago(age_s)} ago"
    learned = trainer.total("headwater_examples_learned_total")
    version = trainer.value("headwater_model_version") or 0
    yield f"the trainer {age}, version {version:.0f}, and has learned {learned:.0f} examples"
    lag = trainer.value("headwater_lag", topic=EXAMPLES.name)
    if lag:
        yield f"{lag:.0f} records of {EXAMPLES.name} wait"
    share = trainer.value("headwater_learning_share")
    if share is not None and share < 1:
        yield f"more comes than it can learn: the slow part learns {share:.1%} of the blocks"
    idle_s = trainer.value("headwater_seconds_since_progress") or 0.0
    if idle_s > SLOW_S:
        yield f"it has made no progress for {ago(idle_s)}: kill -USR1 writes into its log where it stands"
    for what, name, label in (
        ("refused examples", "headwater_dead_letters_total", "reason"),
        ("refused publications", "headwater_publications_refused_total", "reason"),
        ("waits for a server", "headwater_retries_total", "server"),
    ):
        counted = {one.labels[label]: int(one.value) for one in trainer.samples(name) if one.value}
        if counted:
            yield f"{what}: {spelled(counted)}"
