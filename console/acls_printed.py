"""What each user of a world may do, as a server takes it: kafka-acls, Strimzi's KafkaUser, an ACL file of Redis; the
page docs/acls.md; and the topics as kafka-topics and Strimzi take them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from headwater.security.parties import PARTIES, Party, Right, kafka_rights, redis_rules, topics_of
from headwater.settings import KafkaSettings
from headwater.topics import TOPICS, as_kept, topic_name

__all__ = ["acls_page", "kafka_commands", "redis_lines", "strimzi_topics", "strimzi_users", "topic_commands"]

ACLS = 'kafka-acls "$@" --add'
"""The shell's `$@`: where Kafka is, and who may change its ACLs."""


def kafka_commands(parties: Sequence[Party], prefix: str = "", principal: str = "User:{}") -> list[str]:
    """Lines of a shell script for kafka-acls: one for each user, kind of resource and set of operations.

    Parameters
        principal: the user of a party, `{}` being its name: `User:CN={},O=Shop` for client certificates.
    """
    lines = []
    for party in parties:
        grouped: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for (kind, name), needed in _by_resource(kafka_rights(party, prefix)).items():
            grouped.setdefault((kind, tuple(needed)), []).append(name)
        for (kind, operations), names in grouped.items():
            words = [word for operation in operations for word in ("--operation", operation)]
            on = ["--cluster"] if kind == "cluster" else [word for name in names for word in (f"--{kind}", name)]
            who = shlex.quote(principal.replace("{}", party.name))
            lines.append(f"{ACLS} --allow-principal {who} {shlex.join([*words, *on])}")
    return lines


def strimzi_users(parties: Sequence[Party], prefix: str = "", cluster: str = "kafka") -> str:
    """Manifests of Strimzi's KafkaUser, one for each party: SCRAM users with simple authorization."""
    documents = []
    for party in parties:
        lines = [
            "apiVersion: kafka.strimzi.io/v1beta2",
            "kind: KafkaUser",
            "metadata:",
            f"  name: {party.name}",
            "  labels:",
            f"    strimzi.io/cluster: {json.dumps(cluster)}",
            "spec:",
            "  authentication:",
            "    type: scram-sha-512",
            "  authorization:",
            "    type: simple",
            "    acls:",
        ]
        for (kind, name), operations in _by_resource(kafka_rights(party, prefix)).items():
            lines += ["      - resource:", f"          type: {kind}"]
            if kind != "cluster":
                lines += [f"          name: {json.dumps(name)}", "          patternType: literal"]
            lines += [f"        operations: [{', '.join(operations)}]", '        host: "*"']
        documents.append("\n".join(lines) + "\n")
    return "---\n".join(documents)


def strimzi_topics(kafka: KafkaSettings, cluster: str = "kafka") -> str:
    """Manifests of Strimzi's KafkaTopic, one for each of the table, as these settings have them."""
    documents = []
    for topic in (as_kept(one, kafka.retention_days) for one in TOPICS):
        full = topic_name(topic, kafka.prefix)
        lines = [
            "apiVersion: kafka.strimzi.io/v1beta2",
            "kind: KafkaTopic",
            "metadata:",
            f"  name: {json.dumps(full.lower().replace('_', '-'))}",
            "  labels:",
            f"    strimzi.io/cluster: {json.dumps(cluster)}",
            "spec:",
            f"  topicName: {json.dumps(full)}",
            f"  partitions: {topic.partitions}",
            f"  replicas: {kafka.replication}",
            "  config:",
        ]
        lines += [f"    {name}: {json.dumps(value)}" for name, value in topic.configs.items()]
        documents.append("\n".join(lines) + "\n")
    return "---\n".join(documents)


def topic_commands(kafka: KafkaSettings) -> list[str]:
    """Lines of a shell script for kafka-topics, one for each topic of the table, as these settings have them: for who
    makes topics by other means, or has to leave out what a service refuses."""
    lines = []
    for topic in (as_kept(one, kafka.retention_days) for one in TOPICS):
        words = ["--topic", topic_name(topic, kafka.prefix), "--partitions", str(topic.partitions)]
        words += ["--replication-factor", str(kafka.replication)]
        words += [word for name, value in topic.configs.items() for word in ("--config", f"{name}={value}")]
        lines.append(f'kafka-topics "$@" --create --if-not-exists {shlex.join(words)}')
    return lines


def redis_lines(parties: Sequence[Party], prefix: str = "", password: str = "PASSWORD_OF_{}") -> list[str]:
    """Lines of an ACL file of Redis and Valkey, or after `ACL SETUSER` without their first word. Nobody else gets in.

    Parameters
        password: what stands for it, `{}` being the party's name.
    """
    lines = ["user default off"]
    for party in parties:
        rules = redis_rules(party, prefix)
        if rules:
            lines.append(" ".join(["user", party.name, "on", f">{password.replace('{}', party.name)}", *rules]))
    return lines


def acls_page(generated: str) -> str:
    """docs/acls.md."""
    lines = [
        "# Who may do what",
        "",
        f"{generated} Each program has a user of its own, which may do what is said here and nothing else.",
        "`headwater acls --kafka` prints the commands of kafka-acls, `--strimzi` KafkaUser manifests for Kubernetes,",
        "`--redis` an ACL file for Redis or Valkey; `--prefix` is the world's, `--for NAME` one user alone,",
        "`--principal` how Kafka names it (`'User:CN={},O=Shop'` with client certificates).",
        "",
        "A worker looks at its start whether it has its rights. Where one is missing, it ends with exit code 2 and one",
        "line that names the operation, the resource and the user. Nobody but `operator` makes topics: run",
        "`headwater topics --make` as that user before the first worker starts.",
        "",
        "A group of your own (`Client.recommendations(group=...)`) takes Read on that group, too. `replay` reads what",
        "is there; who sends a past stream into a world is a `producer` there. A transactional id is never used.",
        "",
    ]
    for party in PARTIES:
        lines += [f"## {party.name}", "", f"{party.is_what[0].upper()}{party.is_what[1:]}.", ""]
        lines += ["| Kafka | operations |", "|---|---|"]
        lines += [f"| topic `{topic.name}` | {', '.join(operations)} |" for topic, operations in topics_of(party)]
        for (kind, name), operations in _by_resource(kafka_rights(party)).items():
            if kind != "topic":
                lines.append(f"| {kind} `{name}` | {', '.join(operations)} |")
        rules = redis_rules(party)
        lines += ["", f"Redis: `{' '.join(rules)}`" if rules else "Redis: no user."]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _by_resource(rights: Sequence[Right]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for right in rights:
        found.setdefault((right.kind, right.name), []).append(right.operation)
    return found
