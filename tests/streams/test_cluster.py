"""The streams worker on a real Redis Cluster: nodes fail, slots move, writes are lost, and every event counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.store_cluster import StoreCluster, store_cluster
from headwater.errors import SettingsError, Unavailable
from headwater.events import Item
from headwater.identities import Identity
from headwater.settings import Settings, load_settings
from headwater.topics import IDENTITIES, ITEMS
from headwater.wire import encode
from recovery import SealedBackup, back_up, drill, restore
from recovery.places import FolderFiles
from streams.features.store import FeatureStore
from streams.refill import Refill
from streams.running_audit import audit_running
from tests.recovery.test_refill import dump
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import committed_all, event, folded_all, load, send, send_raw, storing

Start = Callable[..., LiveWorker]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StoreCluster]:
    with store_cluster(tmp_path / "cluster") as made:
        yield made


def is_whole(store: FeatureStore) -> bool:
    """Whether all slots can be asked: nodes that have not heard of a new primary name the one that is dead."""
    try:
        store.totals()
    except Unavailable:
        return False
    return True


@pytest.mark.timeout(180)
def test_every_event_counts_once_whatever_a_cluster_does_meanwhile(
    cluster: StoreCluster, settings: Settings, worker: Start, tmp_path: Path
) -> None:
    redis = load_settings(redis={"url": cluster.address, "shards": 64}).redis
    mine = settings.model_copy(update={"redis": redis})
    with pytest.raises(SettingsError, match="HEADWATER_REDIS__SHARDS=64"):
        FeatureStore(redis.model_copy(update={"shards": 1})).ping()
    with pytest.raises(SettingsError, match="no such database"):
        FeatureStore(load_settings(redis={"url": f"{cluster.address}/3", "shards": 64}).redis).ping()
    streams = worker("streams.worker", given=mine)
    with storing(mine) as store:
        with load(mine):
            for number in range(4):
                word = Identity(
                    user_id=f"user-0-{number}", was=f"user-1-{number}", event_time=1_700_000_000_000 + number
                )
                send_raw(mine, encode(word), IDENTITIES, key=word.user_id.encode())
                send_raw(mine, encode(Item(item_id=f"film-{number}")), ITEMS, key=f"film-{number}".encode())
            failing, losing = (cluster.nodes[number] for number in (0, 1))
            eventually(lambda: store.totals().positive > 300)
            cluster.fail_over(failing)
            eventually(lambda: is_whole(store), what="all nodes to know the new primary")
            count = store.totals().positive
            eventually(lambda: store.totals().positive > count + 200, 60)
            moved = next(f"{{s{n}}}" for n in store.slots.all if cluster.owner_of(f"{{s{n}}}") is losing)
            assert cluster.move(moved, cluster.nodes[2]) > 0
            count = store.totals().positive
            eventually(lambda: store.totals().positive > count + 200, 60)
            midway = audit_running(mine)
            assert midway.ok, midway.differences
            assert midway.users > 100
            assert midway.events > count
        assert folded_all(mine).ok
        committed_all(mine)
        backups = FolderFiles(tmp_path / "backups")
        backup = SealedBackup(backups, back_up(mine, backups, None).name, None)  # beside the worker
        drilled = drill(backup, mine)
        assert (drilled.failed, [one[:6] for one in drilled.passed]) == ([], ["audit:"]), drilled.open
        cluster.cut_off(losing)
        send(mine, [event(n, f"late-{n % 30}") for n in range(60)])
        committed = folded_all(mine)
        assert committed.ok, committed.first_difference
        committed_all(mine)
        cluster.fail_over(losing)
        eventually(lambda: streams.metric("headwater_store_went_back_total") > 0, 60, streams.tail)
        result = folded_all(mine)
        assert result.ok, result.first_difference
        assert result.events_applied == committed.events_applied
        assert store.read_users(["user-0-1"]).people == {"user-0-1": ("user-0-1", "user-1-1")}
        assert streams.stop() == 0
        before = dump(mine)
        restore(backup, mine, clear=True)
        assert 0 < Refill(mine, lambda *_: None).run().events < result.events_applied
        assert {**dump(mine), "decay": None, "items": None} == {**before, "decay": None, "items": None}
        users = [f"user-{n % 4}-{n}" for n in range(40)]
        here = {user for user in users if cluster.owner_of(f"{{s{store.slots.of(user)}}}") is not cluster.nodes[2]}
        for node in cluster.nodes:
            if node.running:
                node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        for node in (cluster.nodes[2], cluster.other_of(cluster.nodes[2])):
            node.kill()
        for _ in range(2):  # at first it is looked for, then it rests
            partly = store.read_users(users, partly=True)
            assert partly.states.keys() >= here
            assert partly.away.keys() >= {*users} - here
            assert partly.states.keys().isdisjoint(partly.away)
        assert [partly.is_away([user]) for user in users] == [user not in here for user in users]
        assert not partly.reaches([next(iter(partly.away))], {}, {})
        with pytest.raises(Unavailable):
            store.read_users(users)
        for node in cluster.nodes:
            node.kill()
        with pytest.raises(Unavailable, match="redis-cli --cluster check"):
            store.marks()
