"""Who takes part in a world, and the least that each needs of Kafka and of Redis.

Before: the table of topics, whose columns `written_by` and `read_by` are in these words. After: a worker looks at its
start whether it has its rights (`headwater.kafka.rights`), and `headwater acls` prints them for a server to grant.
"""

from __future__ import annotations

from dataclasses import dataclass

from headwater.topics import EVENTS, TOPICS, Topic, topic_name

__all__ = [
    "DOCTOR",
    "GATEWAY",
    "OPERATOR",
    "PAGE",
    "PARTIES",
    "PRODUCER",
    "REPLAY",
    "REQUESTER",
    "SERVING",
    "STREAMS",
    "TRAINER",
]
__all__ += ["Party", "Right", "kafka_rights", "redis_rules", "topics_of"]


@dataclass(frozen=True)
class Party:
    """A program with a user of its own.

    Fields
        name: of the user, unless another is chosen.
        is_what: in words.
        words: the words of the topics table that mean it.
        groups: consumer groups that it reads as.
        watches: groups whose state and offsets it asks for.
        sees: topics that it describes only: their partitions and ends, not what they hold.
        reads_all: reads every topic, whoever it is for.
        store: its commands of Redis; () has no user there.
    """

    name: str
    is_what: str
    words: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()
    sees: tuple[Topic, ...] = ()
    reads_all: bool = False
    store: tuple[str, ...] = ()


CONNECT = (
    "hello", "auth", "ping", "select", "info", "time", "readonly", "command",
    "cluster|slots", "cluster|shards", "cluster|nodes", "cluster|info", "cluster|myid",
)  # fmt: skip
"""What redis-py says of itself, and asks of a server or a cluster."""

READ = (
    "eval",
    "evalsha",
    "get",
    "mget",
    "getrange",
    "exists",
    "type",
    "hget",
    "hmget",
    "hgetall",
    "zrevrange",
    "zscore",
)
WRITE = (
    "set", "del", "unlink", "hset", "hdel", "zadd", "zrem", "watch", "unwatch", "multi", "exec", "discard",
)  # fmt: skip

STREAMS = Party(
    "streams", "the streams worker", ("streams", "workers"), ("streams",),
    store=(*CONNECT, *READ, *WRITE, "scan"),
)  # fmt: skip
TRAINER = Party("trainer", "the trainer", ("trainer", "workers"), ("trainer",), sees=(EVENTS,))
SERVING = Party("serving", "the serving worker", ("serving", "workers"), ("serving",), store=(*CONNECT, *READ))
PRODUCER = Party("producer", "an app that sends: `Client.track`, `put_items`, `put_users`, `identify`", ("apps",))
REQUESTER = Party("requester", "an app that asks: `Client.recommend`, `Client.recommendations`", ("asking apps",))
GATEWAY = Party("gateway", "the gateway", ("gateway", "apps", "asking apps"))
PAGE = Party("page", "the gateway in its place where it shows the page (`gateway.page`)", ("page", *GATEWAY.words))
DOCTOR = Party(
    "doctor", "commands that look: `doctor`, `topics`, `tail`, `audit`, `dead-letters list`", ("doctor",),
    watches=("streams", "trainer", "serving", "redrive"), reads_all=True, store=(*CONNECT, *READ, "scan"),
)  # fmt: skip
OPERATOR = Party(
    "operator", "commands that change: `topics --make`, `redrive`, `surfaces`, `rollback`, `trace`, "
    "`backup`, `restore`, `rebuild`, `accept-gap --events`",
    ("people", "operators", "apps", "asking apps"), ("redrive", "streams", "serving"),
    watches=("trainer",), reads_all=True,
    store=(*CONNECT, *READ, *WRITE, "scan", "keys", "dbsize", "zrange"),
)  # fmt: skip
REPLAY = Party("replay", "`headwater replay` and `explain` of what the topics hold", ("replay",), reads_all=True)

PARTIES = (STREAMS, TRAINER, SERVING, PRODUCER, REQUESTER, GATEWAY, PAGE, DOCTOR, OPERATOR, REPLAY)


@dataclass(frozen=True, order=True)
class Right:
    """One operation on one resource of Kafka: `topic`, `group` or `cluster`, by its full name."""

    kind: str
    name: str
    operation: str


CLUSTER = "kafka-cluster"
"""What Kafka calls the one resource of that kind."""


def _words(said: str) -> set[str]:
    return {word.strip() for word in said.split(",")}


def topics_of(party: Party) -> list[tuple[Topic, list[str]]]:
    """The topics that a party uses, in the table's order, with the operations that it needs. Kafka takes Read and Write
    for Describe, too."""
    found = []
    for topic in TOPICS:
        reads = party.reads_all or _words(topic.read_by) & set(party.words)
        writes = _words(topic.written_by) & set(party.words)
        operations = [name for name, needs in (("Read", reads), ("Write", writes)) if needs]
        if topic in party.sees and not operations:
            operations = ["Describe"]
        if party is OPERATOR:
            operations += ["Create"]
        if party in (OPERATOR, DOCTOR):
            operations += ["DescribeConfigs"]
        if party is OPERATOR:
            operations += ["AlterConfigs"]
        if operations:
            found.append((topic, operations))
    return found


def kafka_rights(party: Party, prefix: str = "") -> list[Right]:
    """All that a party needs of a Kafka with an authorizer, and no more.

    Parameters
        prefix: of the world: before every topic and group.
    """
    found = [
        Right("topic", topic_name(topic, prefix), operation)
        for topic, operations in topics_of(party)
        for operation in operations
    ]
    found += [Right("group", prefix + group, "Read") for group in party.groups]
    found += [Right("group", prefix + group, "Describe") for group in party.watches]
    if party in (DOCTOR, OPERATOR):
        found += [Right("cluster", CLUSTER, "Describe")]  # groups that it does not know, sizes on disk
    return found


def redis_rules(party: Party, prefix: str = "") -> list[str]:
    """Words of ACL SETUSER, but for name and password: which keys, which commands; [] has no user.

    Who may run a script must have write access to the keys that it names, so what a reader may not write is said by its
    commands, which hold inside of scripts, too.
    """
    if not party.store:
        return []
    keys = "".join(f"\\{one}" if one in "*?[]\\" else one for one in prefix)
    return ["resetchannels", f"~{keys}*", "-@all", *(f"+{command}" for command in sorted(set(party.store)))]
