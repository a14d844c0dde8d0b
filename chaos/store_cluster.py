"""A real Redis Cluster on loopback: three primaries with a replica each, of the binary of the embedded store.

Before: `chaos.servers`, and the tests of the store. After: any cluster client. What an operator does to a cluster, and
what happens to it at night, is a method each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from chaos.waiting import wait
from embedded import EmbeddedStore, free_port

__all__ = ["ClusterNode", "StoreCluster", "store_cluster"]

PRIMARIES = 3
SLOTS = 16_384
REPLICATION_TIMEOUT_S = 5


class ClusterNode(EmbeddedStore):
    """One node. `announced` is the port that it tells clients and other nodes.

    Parameters
        timeout_ms: after which a node that does not answer is taken for dead; a replica takes over half a second to
            one later.
    """

    name = "node"

    def __init__(self, data_dir: Path, timeout_ms: int) -> None:
        super().__init__(data_dir, free_port())
        self.bus = free_port()
        self.announced = self.port
        self._timeout_ms = timeout_ms

    def command(self) -> list[str]:
        """As the store's, and what a cluster takes."""
        return [
            *super().command(),
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-config-file", "nodes.conf"),
            *("--cluster-node-timeout", str(self._timeout_ms), "--cluster-replica-validity-factor", "0"),
            *("--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0"),
            *("--repl-timeout", str(REPLICATION_TIMEOUT_S), "--repl-ping-replica-period", "1"),
            *("--cluster-announce-port", str(self.announced)),
        ]

    def ask(self, *words: Any) -> Any:
        """What it replies to one command, whether keys lie here or not. Raises redis.RedisError."""
        import redis

        client: Any = redis.Redis(port=self.port, socket_timeout=5)
        with contextlib.closing(client):
            return client.execute_command(*words)

    @property
    def id(self) -> str:
        """Its name in the cluster."""
        return str(self.ask("CLUSTER", "MYID").decode())

    @property
    def is_primary(self) -> bool:
        """Whether it runs, and takes itself for a primary."""
        return self.running and bool(self.ask("ROLE")[0] == b"master")


class StoreCluster:
    """Six nodes; the first three begin as primaries, and node n + 3 as the replica of node n."""

    def __init__(self, nodes: list[ClusterNode]) -> None:
        self.nodes = nodes

    @property
    def address(self) -> str:
        """A URL that names three nodes, so that two may be away."""
        return "redis://" + ",".join(f"127.0.0.1:{node.announced}" for node in self.nodes[:PRIMARIES])

    def form(self) -> None:
        """Make one cluster of the nodes."""
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            if number < PRIMARIES:
                node.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1)
                node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if node is not first:
                first.ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
        _until(lambda: all(self._knows_all(node) for node in self.nodes), "six nodes that know each other")
        for primary, replica in zip(self.nodes[:PRIMARIES], self.nodes[PRIMARIES:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", primary.id)
        _until(lambda: all(map(self._is_whole, self.nodes)), "a whole cluster")
        _until(lambda: all(map(self._is_linked, self.nodes[PRIMARIES:])), "replicas that follow")

    def other_of(self, node: ClusterNode) -> ClusterNode:
        """The other one of its shard: they take turns."""
        return self.nodes[(self.nodes.index(node) + PRIMARIES) % len(self.nodes)]

    def primaries(self) -> list[ClusterNode]:
        """Who takes writes now."""
        return [node for node in self.nodes if node.is_primary]

    def follows(self, node: ClusterNode) -> bool:
        """Whether a node runs as a replica that has what its primary has."""
        return node.running and self._is_linked(node)

    def fail_over(self, node: ClusterNode) -> None:
        """kill -9 of a primary; its replica is one afterwards."""
        replica = self.other_of(node)
        node.kill()
        self.await_primary(replica)

    def restart(self, node: ClusterNode, *, crash: bool = False) -> None:
        """As an upgrade does: a primary hands over to its replica first, unless it is to crash; all is whole then."""
        if node.is_primary and not crash:
            replica = self.other_of(node)
            replica.ask("CLUSTER", "FAILOVER")
            self.await_primary(replica)
            _until(lambda: self._is_linked(node), "the primary of before follows")
        if crash:
            node.kill()
        else:
            node.stop()
        node.start()
        self.await_whole()
        replicas = [one for one in self.nodes if one.ask("ROLE")[0] == b"slave"]
        _until(lambda: len(replicas) == PRIMARIES and all(map(self._is_linked, replicas)), "replicas that follow")

    def await_primary(self, node: ClusterNode) -> None:
        """Wait until a node is a primary and the cluster answers again."""
        _until(lambda: node.is_primary, f"a replica at {node.port} that has taken over")
        _until(lambda: self._is_whole(node), "a cluster that answers again")

    def await_whole(self) -> None:
        """Wait until all six nodes answer for all slots."""
        _until(lambda: all(node.running and self._is_whole(node) for node in self.nodes), "a whole cluster")

    def cut_off(self, node: ClusterNode) -> None:
        """From now on a primary's replica gets nothing: what is written is lost when the primary fails."""
        node.ask("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        node.ask("CLIENT", "KILL", "TYPE", "replica")
        replica = self.other_of(node)
        _until(lambda: replica.ask("ROLE")[3] != b"connected", "a replica that is cut off")

    def owner_of(self, tag: str) -> ClusterNode:
        """The primary that has the keys of a tag such as `{s17}`."""
        slot = self._slot(tag)
        alive = [node for node in self.nodes if node.running]
        for first, last, primary, *_ in alive[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in alive if node.announced == primary[1])
        raise LookupError(f"nobody has {tag}")

    def move(self, tag: str, to: ClusterNode) -> int:
        """Move the keys of a tag to another primary, one after another, as `redis-cli --cluster reshard` does."""
        slot, source = self._slot(tag), self.owner_of(tag)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        moved = 0
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 5):
            source.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        for node in (to, source, *(one for one in self.nodes if one.running and one not in (to, source))):
            if node.ask("ROLE")[0] == b"master":
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.id)
        return moved

    def _slot(self, tag: str) -> int:
        return int(next(node for node in self.nodes if node.running).ask("CLUSTER", "KEYSLOT", tag))

    def _knows_all(self, node: ClusterNode) -> bool:
        return self._info(node, "known_nodes") == "6"

    def _is_whole(self, node: ClusterNode) -> bool:
        return self._info(node, "state") == "ok"

    def _is_linked(self, node: ClusterNode) -> bool:
        role = node.ask("ROLE")
        return bool(role[0] == b"slave" and role[3] == b"connected")

    def _info(self, node: ClusterNode, name: str) -> str:
        lines: list[str] = node.ask("CLUSTER", "INFO").decode().splitlines()
        return next(line.partition(":")[2] for line in lines if line.startswith(f"cluster_{name}:"))


def _until(condition: Any, what: str) -> None:
    wait(condition, 30.0, lambda: what, 0.05)


@contextmanager
def store_cluster(folder: Path, timeout_ms: int = 700) -> Iterator[StoreCluster]:
    """A cluster that answers; no process is left of it."""
    with ExitStack() as stack:
        nodes = [ClusterNode(folder / f"node-{number}", timeout_ms) for number in range(2 * PRIMARIES)]
        yield started(nodes, stack)


def started(nodes: list[ClusterNode], stack: ExitStack) -> StoreCluster:
    """Start nodes, which end with the stack, and make a cluster of them."""
    for node in nodes:
        stack.enter_context(node)
    made = StoreCluster(nodes)
    made.form()
    return made
