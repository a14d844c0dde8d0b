"""A world whose states are sealed, through all that reads and writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
from pydantic import SecretStr

from headwater import Client
from headwater.settings import Settings
from tests.privacy.test_sealing import MASTER, OTHER, as_said, everything
from tests.privacy.test_verbs import environment
from tests.worlds.commands import headwater
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import event, folded_all, send, storing


def test_a_sealed_world_works_is_audited_backed_up_lost_and_made_again(
    settings: Settings, worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    world = as_said(settings, seal_states=True, master_key=SecretStr(MASTER))
    env = environment(world, HEADWATER_PRIVACY__SEAL_STATES="1", HEADWATER_PRIVACY__MASTER_KEY=MASTER)
    streams = worker("streams.worker", given=world)
    with Client(settings=world.kafka) as client:
        client.identify("ada", was="guest", event_time=event(0).event_time).result(30)
        client.put_users([{"user_id": "ada", "attributes": {"plan": "plan-of-ada"}}]).result(30)
    send(world, [event(n, user, item_id=f"film-of-{user}", value=2.5) for n in range(8) for user in ("ada", "guest")])
    assert folded_all(world).ok
    with storing(world) as store:
        eventually(lambda: store.read_users(["ada"]).attributes, 30, "attributes")
        before = store.read_users(["ada"])
    assert [*before.people["ada"]] == ["ada", "guest"]
    assert not [kind for kind, value in everything(world).items() if b"plan-of" in value]
    for words in (("audit", "features", "--json"), ("export", "ada"), ("seal-states", "--json")):
        done = headwater(*words, **env)
        assert done.returncode == 0, done.stdout + done.stderr
    assert orjson.loads(done.stdout) == {"states": 0, "attributes": 0, "unreadable": 0, "sealed": True}
    assert streams.stop() == 0

    made_at = str(tmp_path / "backups")
    more = {
        "HEADWATER_TRAINER__DIRECTORY": str(tmp_path / "no"),
        "HEADWATER_TRAINER__BUNDLES": str(tmp_path / "none"),
    }
    done = headwater("backup", "make", made_at, **env, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    refused = headwater("audit", "features", **environment(world))
    assert (refused.returncode != 0, "no master key" in refused.stdout + refused.stderr) == (True, True)
    blind = worker("streams.worker", given=settings, wait=False)
    assert blind.process is not None
    assert blind.process.wait(60) == 2
    assert "no master key" in blind.tail()

    other = tmp_path / "other.key"
    other.write_text(OTHER)
    off = env | {"HEADWATER_PRIVACY__SEAL_STATES": "0"}  # what was sealed before has to have the new one all the same
    done = headwater("pseudonyms", "new-master", "--key-file", str(other), **off)
    assert done.returncode == 0, done.stdout + done.stderr
    env["HEADWATER_PRIVACY__MASTER_KEY"] = OTHER
    world = as_said(world, master_key=SecretStr(OTHER))
    with storing(world) as store:
        assert store.read_users(["ada"]).states == before.states
    for words in (("rebuild", "features", "--clear"), ("audit", "features")):
        done = headwater(*words, "--json", **env)
        assert done.returncode == 0, done.stdout + done.stderr
    with storing(world) as store:
        rebuilt = store.read_users(["ada"])
        assert [list(rebuilt.states[one].history) for one in ("ada", "guest")] == [
            list(before.states[one].history) for one in ("ada", "guest")
        ]
        assert rebuilt.attributes == before.attributes

    env["HEADWATER_PRIVACY__MASTER_KEY"] = MASTER  # as of the backup
    world = as_said(world, master_key=SecretStr(MASTER))
    done = headwater("restore", made_at, "--clear", **env, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    with storing(world) as store:
        store.check()
        assert store.read_users(["ada"]).states == before.states
