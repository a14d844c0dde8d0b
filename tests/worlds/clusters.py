"""A real Redis Cluster on loopback: three primaries with a replica each, of the binary that the store's tests use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from embedded import EmbeddedStore, free_port
from tests.worlds.processes import eventually

PRIMARIES = 3
SLOTS = 16_384
NODE_TIMEOUT_MS = 700
"""After which a node that does not answer is taken for dead: a replica takes over half a second to one later."""


class ClusterServer(EmbeddedStore):
    """One node."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, free_port())
        self.bus = free_port()

    def command(self) -> list[str]:
        return [
            *super().command(),
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-config-file", "nodes.conf"),
            *("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-replica-validity-factor", "0"),
            *("--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0"),
        ]

    def ask(self, *words: Any) -> Any:
        """What it replies to one command, whether keys lie here or not."""
        import redis

        with contextlib.closing(redis.Redis(port=self.port, socket_timeout=5)) as client:
            return client.execute_command(*words)

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID").decode())


class StoreCluster:
    """Six nodes; the first three begin as primaries, and node n + 3 as the replica of node n."""

    def __init__(self, nodes: list[ClusterServer]) -> None:
        self.nodes = nodes

    @property
    def address(self) -> str:
        """A URL that names three nodes, so that two may be away."""
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:PRIMARIES])

    def form(self) -> None:
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            if number < PRIMARIES:
                node.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1)
                node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if node is not first:
                first.ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
        eventually(lambda: all(self._knows_all(node) for node in self.nodes), 30, "six nodes that know each other")
        for primary, replica in zip(self.nodes[:PRIMARIES], self.nodes[PRIMARIES:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", primary.id)
        eventually(lambda: all(map(self._is_whole, self.nodes)), 30, "a whole cluster")
        eventually(lambda: all(map(self._is_linked, self.nodes[PRIMARIES:])), 30, "replicas that follow")

    def replica_of(self, node: ClusterServer) -> ClusterServer:
        return self.nodes[self.nodes.index(node) + PRIMARIES]

    def fail_over(self, node: ClusterServer) -> None:
        """kill -9 of a primary; its replica is one afterwards."""
        replica = self.replica_of(node)
        node.kill()
        eventually(lambda: replica.ask("ROLE")[0] == b"master", 30, "a replica that has taken over")
        eventually(lambda: self._is_whole(replica), 30, "a cluster that answers again")

    def restart(self, node: ClusterServer, *, crash: bool = False) -> None:
        """As an upgrade does: a primary hands over to its replica first, unless it is to crash; all is whole then."""
        if node.ask("ROLE")[0] == b"master" and not crash:
            replica = next(one for one in self.nodes if one.running and self._follows(one, node))
            replica.ask("CLUSTER", "FAILOVER")
            eventually(lambda: replica.ask("ROLE")[0] == b"master", 30, "a replica that has taken over")
            eventually(lambda: self._is_linked(node), 30, "the primary of before follows")
        if crash:
            node.kill()
        else:
            node.stop()
        node.start()
        eventually(lambda: all(map(self._is_whole, self.nodes)), 30, "a whole cluster")
        replicas = [one for one in self.nodes if one.ask("ROLE")[0] == b"slave"]
        eventually(lambda: len(replicas) == PRIMARIES and all(map(self._is_linked, replicas)), 30, "replicas follow")

    def _follows(self, node: ClusterServer, primary: ClusterServer) -> bool:
        role = node.ask("ROLE")
        return bool(role[0] == b"slave" and role[2] == primary.port)

    def cut_off(self, node: ClusterServer) -> None:
        """From now on a primary's replica gets nothing: what is written is lost when the primary fails."""
        node.ask("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        node.ask("CLIENT", "KILL", "TYPE", "replica")
        replica = self.replica_of(node)
        eventually(lambda: replica.ask("ROLE")[3] != b"connected", 30, "a replica that is cut off")

    def owner_of(self, tag: str) -> ClusterServer:
        """The primary that has the keys of a tag such as `{s17}`."""
        slot = self._slot(tag)
        alive = [node for node in self.nodes if node.running]
        for first, last, primary, *_ in alive[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in alive if node.port == primary[1])
        raise AssertionError(f"nobody has {tag}")

    def move(self, tag: str, to: ClusterServer) -> int:
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

    def _knows_all(self, node: ClusterServer) -> bool:
        return self._info(node, "known_nodes") == "6"

    def _is_whole(self, node: ClusterServer) -> bool:
        return self._info(node, "state") == "ok"

    def _is_linked(self, node: ClusterServer) -> bool:
        role = node.ask("ROLE")
        return bool(role[0] == b"slave" and role[3] == b"connected")

    def _info(self, node: ClusterServer, name: str) -> str:
        lines = node.ask("CLUSTER", "INFO").decode().splitlines()
        return next(line.partition(":")[2] for line in lines if line.startswith(f"cluster_{name}:"))


@contextmanager
def store_cluster(folder: Path) -> Iterator[StoreCluster]:
    """A cluster that answers; no process is left of it."""
    with ExitStack() as stack:
        nodes = [ClusterServer(folder / f"node-{number}") for number in range(2 * PRIMARIES)]
        for node in nodes:
            stack.enter_context(node)
        made = StoreCluster(nodes)
        made.form()
        yield made
