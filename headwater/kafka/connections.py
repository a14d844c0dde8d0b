"""How every kafka-python client of the project is made: one place for addresses, security and measured defaults.

Before: settings. After: the SDK's client, the workers and the console. Imports kafka-python only when called.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from headwater.errors import AccessDenied, SettingsError, Unavailable
from headwater.kafka.access import await_port, check_access
from headwater.kafka.login import sasl_arguments
from headwater.kafka.producer import (
    asking_at_once,
    ending_as_kafkas,
    leaving_nothing,
    letting_go,
    missing_nothing,
    reading_any_names,
    recovering,
    telling_all,
)
from headwater.kafka.sockets import SOCKET_OPTIONS
from headwater.security import kafka_login
from headwater.settings import KafkaSettings
from headwater.topics import TOPICS, Topic, as_kept, topic_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

__all__ = [
    "admin_client",
    "consumer",
    "denied_topics",
    "ensure_topics",
    "existing_topic",
    "missing_topic",
    "not_allowed",
    "producer",
    "whoami",
]

LISTED_WITHIN_S = 30.0
"""Time that Kafka gets to tell of a topic that it has made."""

LOOK_MS = 5000
"""Time that Kafka gets to tell whether a topic is there."""

LIGHT = {"metrics_enabled": False}
"""kafka-python's own metrics, which nobody reads, take a twentieth of a worker's processor time."""


def _common(kafka: KafkaSettings) -> dict[str, Any]:
    login = kafka_login(kafka)
    config: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap.split(","),
        "security_protocol": kafka.security_protocol,
        "socket_options": SOCKET_OPTIONS,
    }
    if login.context is not None:
        config["ssl_context"] = login.context
    return config | sasl_arguments(login)


def producer(kafka: KafkaSettings, **overrides: Any) -> KafkaProducer:
    """An idempotent producer that waits for all replicas.

    Parameters
        kafka: where, and how to log in.
        overrides: settings of KafkaProducer.

    Raises
        Unavailable: no broker answers.
        AccessDenied, SettingsError: it does not let us in, and no waiting mends that.
    """
    from kafka import KafkaProducer

    config = {**_common(kafka), "linger_ms": kafka.linger_ms, "batch_size": 128 * 1024, **LIGHT, **overrides}
    return recovering(_connected(KafkaProducer, kafka, config))


def consumer(kafka: KafkaSettings, group: str | None = None, **overrides: Any) -> KafkaConsumer:
    """A consumer that starts at the earliest record and never commits by itself.

    Parameters
        kafka: where, and how to log in.
        group: gets the prefix of the settings; None joins no group.
        overrides: settings of KafkaConsumer.

    Raises
        Unavailable: no broker answers.
        AccessDenied, SettingsError: it does not let us in, and no waiting mends that.
    """
    from kafka import KafkaConsumer

    config = {
        **_common(kafka),
        "group_id": None if group is None else kafka.prefix + group,
        "enable_auto_commit": False,
        **LIGHT,
        "auto_offset_reset": "earliest",
        "session_timeout_ms": kafka.session_timeout_ms,
        "heartbeat_interval_ms": min(500, kafka.session_timeout_ms // 3),
        **overrides,
    }
    if group is None:
        for name in ("session_timeout_ms", "heartbeat_interval_ms"):
            config.pop(name)
    reading_any_names()
    return letting_go(missing_nothing(leaving_nothing(telling_all(_connected(KafkaConsumer, kafka, config)))))


def admin_client(kafka: KafkaSettings, **overrides: Any) -> KafkaAdminClient:
    """An admin client. Raises as `consumer`."""
    from kafka import KafkaAdminClient

    return _connected(KafkaAdminClient, kafka, {**_common(kafka), **overrides})


_let_in: set[KafkaSettings] = set()
"""Settings by which a Kafka has let this process in; asked again when a client cannot be made."""


def _connected(client: Any, kafka: KafkaSettings, config: dict[str, Any]) -> Any:
    from kafka.errors import KafkaError

    ending_as_kafkas()
    timeout_s = config.get("bootstrap_timeout_ms", 5000) / 1000
    try:
        if kafka not in _let_in:
            check_access(kafka, timeout_s)
            _let_in.add(kafka)
        else:
            await_port(kafka, timeout_s)
        return asking_at_once(client(**config))
    except (KafkaError, OSError) as error:
        if isinstance(error, KafkaError):
            _let_in.discard(kafka)
            with contextlib.suppress(OSError):
                check_access(kafka, timeout_s)
        raise Unavailable(
            f"no Kafka answers at {kafka.bootstrap} ({error}). Start one (`headwater up` brings its own), "
            "or set HEADWATER_KAFKA__BOOTSTRAP to where it is."
        ) from error


def ensure_topics(
    kafka: KafkaSettings, partitions: dict[str, int] | None = None, topics: Sequence[Topic] | None = None
) -> list[str]:
    """Create topics of the table that are missing under the prefix. Existing topics are left as they are.

    Parameters
        kafka: where, and the prefix.
        partitions: overrides the table's partition counts, by topic name.
        topics: which; a worker names those that it uses. None: all but those that are made where they are used.

    Returns
        The names created, sorted, once the broker lists all of them: Kafka has made a topic a moment before it lists
            it.

    Raises
        Unavailable: Kafka does not answer, or does not list what it made.
        AccessDenied: this user may not describe or make them.
        SettingsError: the broker refuses to make them for another reason.
    """
    from kafka.errors import AuthorizationError, KafkaError

    admin = admin_client(kafka)
    try:
        present = set(admin.list_topics())
        wanted = [topic for topic in TOPICS if not topic.made_when_used] if topics is None else topics
        missing = [topic for topic in wanted if topic_name(topic, kafka.prefix) not in present]
        denied = _denied(admin, [topic_name(topic, kafka.prefix) for topic in missing])
        if denied:
            raise not_allowed(kafka, denied)
        made = sorted(_create(admin, topic, kafka, partitions or {}) for topic in missing)
        deadline = time.monotonic() + LISTED_WITHIN_S
        while absent := set(made).difference(admin.list_topics() if made else ()):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{kafka.bootstrap} made {', '.join(sorted(absent))} and does not list them after "
                    f"{LISTED_WITHIN_S:.0f} s. Check Kafka, then try again."
                )
            time.sleep(0.05)
        return made
    except KafkaError as error:
        text = f"{kafka.bootstrap} does not make the topics ({error!r})."
        if error.retriable:
            raise Unavailable(f"{text} Check Kafka.") from error
        if isinstance(error, AuthorizationError):
            names = ", ".join(topic_name(topic, kafka.prefix) for topic in missing)
            raise AccessDenied(
                f"{kafka.bootstrap} has no topic {names}, and does not allow {whoami(kafka)}: Create on topic {names}. "
                "Make them beforehand: `headwater topics --make` as the user `operator` (`headwater acls`)"
            ) from error
        raise SettingsError(
            f"{text} Check kafka.replication (now {kafka.replication}). Where the service refuses a configuration, "
            "make the topics there: `headwater topics --script` prints what they should be (docs/managed-kafka.md)."
        ) from error
    finally:
        admin.close()


def whoami(kafka: KafkaSettings) -> str:
    """Whom Kafka sees in us, in words."""
    if kafka.sasl_username is not None:
        return f"user {kafka.sasl_username!r}"
    if kafka.security_protocol.startswith("SASL"):
        return "the user of our token"
    if kafka.ssl_certfile is not None:
        return f"the user of the certificate {kafka.ssl_certfile}"
    return "user 'ANONYMOUS'"


def existing_topic(kafka: KafkaSettings, topic: Topic) -> str:
    """The full name of a topic that is there.

    Ask this before a producer or consumer names a topic that may be missing: kafka-python 3.0.12 does not pass on
    `allow_auto_create_topics=False`, and the broker would make the topic with the wrong number of partitions.

    Raises
        Unavailable: the topic, or Kafka, is not there.
        AccessDenied: this user may not describe it, so that nobody knows.
    """
    from kafka.errors import KafkaError

    name = topic_name(topic, kafka.prefix)
    admin = admin_client(kafka, bootstrap_timeout_ms=LOOK_MS, request_timeout_ms=LOOK_MS)
    try:
        if name in admin.list_topics():
            return name
        if _denied(admin, [name]):
            raise not_allowed(kafka, [name])
    except KafkaError as error:
        raise Unavailable(
            f"{kafka.bootstrap} does not tell whether there is a topic {name} ({error!r}). Check Kafka, then try again."
        ) from error
    finally:
        admin.close()
    raise missing_topic(name, kafka)


def denied_topics(kafka: KafkaSettings, names: Sequence[str]) -> list[str]:
    """Of topics that Kafka does not list, those that this user may not describe: whether they are there is not told.

    Parameters
        kafka: where, and how to log in.
        names: full names.

    Raises
        Unavailable: no broker answers.
        AccessDenied, SettingsError: it does not let us in.
    """
    admin = admin_client(kafka)
    try:
        return _denied(admin, names)
    finally:
        admin.close()


def _denied(admin: Any, names: Sequence[str]) -> list[str]:
    from kafka.errors import TopicAuthorizationFailedError

    described = admin.describe_topics(list(names)) if names else []
    code = TopicAuthorizationFailedError.errno
    return [topic["name"] for topic in described if topic["error_code"] == code]


def not_allowed(kafka: KafkaSettings, names: Sequence[str]) -> AccessDenied:
    """The error of topics that this user may not describe."""
    prefix = f" --prefix {kafka.prefix}" if kafka.prefix else ""
    return AccessDenied(
        f"Kafka at {kafka.bootstrap} does not allow {whoami(kafka)}: Describe on topic {', '.join(names)}, so that "
        f"they look as if they were missing. Allow it: `headwater acls --kafka{prefix}` prints the commands"
    )


def missing_topic(name: str, kafka: KafkaSettings) -> Unavailable:
    """The error of a topic that is not there."""
    return Unavailable(
        f"no topic {name} at {kafka.bootstrap}. Check the prefix; the workers make the topics when they start."
    )


def _create(admin: Any, topic: Topic, kafka: KafkaSettings, partitions: dict[str, int]) -> str:
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    name = topic_name(topic, kafka.prefix)
    new = NewTopic(
        name,
        num_partitions=partitions.get(topic.name, topic.partitions),
        replication_factor=kafka.replication,
        topic_configs=as_kept(topic, kafka.retention_days).configs,
    )
    with contextlib.suppress(TopicAlreadyExistsError):  # another worker that started at the same moment made it
        admin.create_topics([new])
    return name
