"""The world that a demo runs in: a folder of its own, and on servers of others a prefix, removed afterwards.

On the embedded servers there is nothing to remove: they go with their folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from console.local.addresses import Servers
from headwater.errors import HeadwaterError, Unavailable
from headwater.events import new_id
from headwater.settings import KafkaSettings, RedisSettings, load_settings
from headwater.topics import TOPICS, topic_name

__all__ = ["own_world"]


@contextlib.contextmanager
def own_world(directory: Path, kafka: str | None, redis: str | None) -> Iterator[Servers]:
    """The servers of a demo.

    Only the flags bring in servers of others, never the environment: no demo in a production by accident.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shared = kafka is not None or redis is not None
    given: dict[str, dict[str, Any]] = {
        "kafka": {"prefix": f"demo-{new_id()[:8]}." if shared else ""},
        "trainer": {"directory": directory / "trainer", "bundles": directory / "models"},
        "serving": {"bundles": directory / "models"},
    }
    if kafka is not None:
        given["kafka"]["bootstrap"] = kafka
    else:
        # Only what was said of a secured cluster elsewhere would not fit the embedded broker.
        given["kafka"] |= {"security_protocol": "PLAINTEXT", "sasl_mechanism": None, "ssl_cafile": None}
    if redis is not None:
        given["redis"] = {"url": redis}
    settings = load_settings(**given)
    try:
        yield Servers(settings, kafka is None, redis is None)
    finally:
        if kafka is not None:
            _remove_topics(settings.kafka)
        if redis is not None:
            _remove_keys(settings.redis, settings.kafka.prefix)


def _remove_topics(kafka: KafkaSettings) -> None:
    from kafka.errors import KafkaError

    from console.look.cluster import open_admin

    with contextlib.suppress(Unavailable, KafkaError), open_admin(kafka) as admin:
        names = {topic_name(topic, kafka.prefix) for topic in TOPICS} & set(admin.list_topics())
        if names:
            admin.delete_topics(sorted(names))
        groups = [group["group_id"] for group in admin.list_groups() if group["group_id"].startswith(kafka.prefix)]
        if groups:
            admin.delete_groups(groups)


def _remove_keys(settings: RedisSettings, prefix: str) -> None:
    from streams.features.store import FeatureStore

    store = FeatureStore(settings, prefix)
    with contextlib.suppress(HeadwaterError), contextlib.closing(store):
        store.erase()
