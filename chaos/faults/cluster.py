"""What happens to a cluster's nodes and slots, and what its operators do to it under load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import redis

from chaos.faults.fault import Fault, NoEffect, Stage
from chaos.stack import Stack
from chaos.store_cluster import ClusterNode, StoreCluster

__all__ = ["FAULTS"]

MOST_SLOTS = 6
BEHIND_S = (0.3, 2.0)
"""How long a replica gets nothing before its primary dies."""


def _cluster(stage: Stage) -> StoreCluster:
    cluster = stage.stack.store.cluster
    if cluster is None:
        raise NoEffect("the store is no cluster of ours")
    return cluster


def _followed(stage: Stage, cluster: StoreCluster) -> ClusterNode:
    """A primary whose replica has what it has."""
    found = [node for node in cluster.primaries() if cluster.follows(cluster.other_of(node))]
    if not found:
        raise NoEffect("no primary has a replica that follows")
    return stage.chance.choice(found)


def _said(act: Callable[[Stage], Iterator[str]]) -> Callable[[Stage], Iterator[str]]:
    """What a node refuses, or takes too long for, was no fault."""

    def wrapped(stage: Stage) -> Iterator[str]:
        try:
            yield from act(stage)
        except (redis.RedisError, LookupError) as error:
            raise NoEffect(f"the cluster says {error!r}") from error

    return wrapped


def _fail_over(stage: Stage) -> Iterator[str]:
    """In order, as before maintenance: replica and primary change places, and nothing is lost."""
    cluster = _cluster(stage)
    primary = _followed(stage, cluster)
    replica = cluster.other_of(primary)
    replica.ask("CLUSTER", "FAILOVER")
    cluster.await_primary(replica)
    yield f"{replica.port} takes over from {primary.port}"


def _kill_primary(stage: Stage) -> Iterator[str]:
    cluster = _cluster(stage)
    primary = _followed(stage, cluster)
    try:
        cluster.fail_over(primary)
        yield f"{primary.port}, kill -9; {cluster.other_of(primary).port} has taken over"
    finally:
        primary.start()


def _lose_unreplicated(stage: Stage) -> Iterator[str]:
    """A primary dies whose replica was behind: what it acknowledged last is gone."""
    cluster = _cluster(stage)
    primary = _followed(stage, cluster)
    cluster.cut_off(primary)
    time.sleep(behind_s := stage.chance.uniform(*BEHIND_S))
    try:
        cluster.fail_over(primary)
        yield f"{primary.port}, kill -9; {cluster.other_of(primary).port} was {behind_s:.1f} s behind"
    finally:
        primary.start()


def _kill_shard(stage: Stage) -> Iterator[str]:
    """A third of all users is away."""
    cluster = _cluster(stage)
    primary = _followed(stage, cluster)
    both = (primary, cluster.other_of(primary))
    try:
        for node in both:
            node.kill()
        yield f"{primary.port} and its replica, kill -9"
    finally:
        for node in both:
            node.start()
        cluster.await_whole()


def _move_slots(stage: Stage) -> Iterator[str]:
    """Slots change their primary while they are read and written."""
    cluster, moved, keys = _cluster(stage), 0, 0
    primaries = cluster.primaries()
    tags = [f"{{s{number}}}" for number in range(stage.stack.settings.redis.shards)]
    for tag in stage.chance.sample(tags, min(len(tags), stage.chance.randint(1, MOST_SLOTS))):
        others = [node for node in primaries if node is not cluster.owner_of(tag)]
        if others:
            keys += cluster.move(tag, stage.chance.choice(others))
            moved += 1
    if not moved:
        raise NoEffect("there is one primary")
    yield f"{moved} slots with {keys} keys have another primary"


def _lacks(stack: Stack) -> str | None:
    return None if stack.store.cluster is not None else "the store is one server: --redis cluster starts six nodes"


FAULTS = [
    Fault("fail_over_store", "a replica takes over in order", _said(_fail_over), lacks=_lacks),
    Fault(
        "kill_primary", "a primary of the store dies, and its replica takes over", _said(_kill_primary), lacks=_lacks
    ),
    Fault("lose_unreplicated", "a primary dies with what its replica has not", _said(_lose_unreplicated), lacks=_lacks),
    Fault("kill_shard", "a primary and its replica are away", _said(_kill_shard), (1.0, 6.0), _lacks),
    Fault("move_slots", "slots move to another primary under load", _said(_move_slots), lacks=_lacks),
]
