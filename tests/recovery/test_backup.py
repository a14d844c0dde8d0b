"""A world is backed up while it runs, proven by a drill, lost, and made again: the same one, or another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from headwater.errors import HeadwaterError, SettingsError
from headwater.identities import Identity
from headwater.settings import Settings
from headwater.surfaces import Surface
from headwater.topics import EVENTS, IDENTITIES, SURFACES
from headwater.wire import encode
from models.checkpoint import read_checkpoint
from recovery import BackupError, SealedBackup, backups_at, restore
from recovery.places import FolderFiles
from streams.audit import audit
from streams.running_audit import audit_running
from tests.recovery.test_refill import dump
from tests.worlds.commands import headwater
from tests.worlds.processes import LiveWorker, eventually, remove_world
from tests.worlds.replay import Replayed, replayed, walks
from tests.worlds.streams import committed_all, end_marks, eventually_equal, send_packed, storing
from tests.worlds.topic_reading import everything
from trainer.checkpoints import state_digest

KEY = "6b" * 32


class Made(NamedTuple):
    """A world with a backup of it, and the variables by which a command finds it."""

    world: Replayed
    folder: Path
    env: dict[str, str]

    @property
    def settings(self) -> Settings:
        return self.world.settings

    @property
    def backup(self) -> SealedBackup:
        place = FolderFiles(self.folder / "backups")
        return SealedBackup(place, backups_at(place)[-1], bytes.fromhex(KEY))


def environment(settings: Settings) -> dict[str, str]:
    return {
        "HEADWATER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HEADWATER_KAFKA__PREFIX": settings.kafka.prefix,
        "HEADWATER_REDIS__URL": settings.redis.url.get_secret_value(),
        "HEADWATER_TRAINER__DIRECTORY": str(settings.trainer.directory),
        "HEADWATER_TRAINER__BUNDLES": str(settings.trainer.bundles),
        "HEADWATER_MODEL__OVERRIDES": orjson.dumps(settings.model.overrides).decode(),
        "HEADWATER_SERVING__PROVIDER": "cpu",
    }


@pytest.fixture(scope="module")
def made(kafka_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("backed-up")
    told = {"publish_every_s": 0.1, "snapshot_every_s": 0.5, "checkpoint_every_s": 0.3}
    with replayed(kafka_address, redis_url, folder, **told) as world:
        world.start("streams", "serving", "trainer")
        world.put_catalogue()
        world.world.send(SURFACES, encode(Surface(kind="popular", k=6)), b"home")
        world.world.send(IDENTITIES, encode(Identity(user_id="user-9", was="user-10")), b"user-9")
        world.send(walks(200))
        eventually(lambda: (world.world.recommend("user-1").receipt.model_examples or 0) > 0, 60, "a model")
        key = folder / "key"
        key.write_text(KEY)
        url = str(folder / "backups")
        for _ in range(2):
            done = headwater("backup", "make", url, "--key", str(key), "--keep", "1", **environment(world.settings))
            assert done.returncode == 0, done.stderr
        made = Made(world, folder, environment(world.settings))
        least = max(int(name[1:].partition("-")[0]) for name in made.backup.told["bundles"])
        eventually(
            lambda: (world.world.recommend("user-1").receipt.model_version or 0) >= least, 30, "its model answers"
        )
        yield made


def test_a_backup_that_was_made_beside_running_workers_passes_its_drill(made: Made) -> None:
    names = headwater("backup", "list", str(made.folder / "backups"), "--json").stdout
    assert len(orjson.loads(names)) == 1, "one was kept"
    url, key = str(made.folder / "backups"), str(made.folder / "key")
    done = headwater("backup", "verify", url, "--key", key, **made.env)
    assert done.returncode == 0, (done.stdout, done.stderr)
    for look in ("ok: audit: ", "ok: checkpoint: ", "ok: explain: ", "good"):
        assert look in done.stdout, done.stdout
    with storing(made.settings) as store:
        assert store.rebuilding() is None
        assert not store.prefixes("drill")


def test_a_backup_that_lacks_the_model_is_incomplete(made: Made, tmp_path: Path) -> None:
    url = str(tmp_path / "backups")
    elsewhere = {"HEADWATER_TRAINER__DIRECTORY": str(tmp_path / "t"), "HEADWATER_TRAINER__BUNDLES": str(tmp_path / "m")}
    env = {**made.env, **elsewhere}
    done = headwater("backup", "make", url, **env)
    assert (done.returncode, done.stdout.count("INCOMPLETE: no ")) == (1, 2), done.stdout + done.stderr
    looked = headwater("backup", "verify", url, **env)
    assert (looked.returncode, looked.stdout.endswith("incomplete\n")) == (1, True), looked.stdout + looked.stderr
    assert headwater("backup", "make", url, "--without-model", **env).returncode == 0


def test_a_backup_that_is_not_there_is_told_with_those_that_are(made: Made, tmp_path: Path) -> None:
    missing = headwater("backup", "list", str(tmp_path / "no-such-disk"))
    assert (missing.returncode, "there is no folder" in missing.stderr) == (2, True)
    other = headwater("restore", str(made.folder / "backups"), "--name", "nope", **made.env)
    assert (other.returncode, made.backup.name in other.stderr) == (2, True), other.stderr


def test_leave_for_a_gap_is_given_to_a_trainer_that_stands_still(made: Made, tmp_path: Path) -> None:
    nowhere = headwater("accept-gap", "--directory", str(tmp_path / "typo"))
    assert (nowhere.returncode, "has no checkpoint" in nowhere.stderr) == (2, True)
    assert not (tmp_path / "typo").exists()
    running = headwater("accept-gap", "--directory", str(made.settings.trainer.directory))
    assert (running.returncode, "belongs to a running trainer" in running.stderr) == (2, True)
    folder = tmp_path / "data" / "trainer"
    folder.mkdir(parents=True)
    (folder / "checkpoint-00000000000000000007.ckpt").touch()
    given = headwater("accept-gap", "--data", str(tmp_path / "data"))  # no server is asked
    assert given.returncode == 0, given.stderr
    assert (folder / "accept-gap").exists()


def test_a_world_that_was_lost_goes_on_where_it_was(made: Made) -> None:
    """Disk and store are gone, Kafka is there: what came after the backup is read again."""
    settings = made.settings
    with pytest.raises(HeadwaterError, match="streams workers run"):
        restore(made.backup, settings)
    made.world.send(walks(260)[200:])
    eventually_equal(lambda: marks(settings), end_marks(settings))
    committed_all(settings)
    made.world.stop()
    before, digest = dump(settings), newest_digest(settings)
    with pytest.raises(HeadwaterError, match=r"is not empty.*--clear"):
        restore(made.backup, settings)
    shutil.rmtree(settings.trainer.directory)
    shutil.rmtree(settings.trainer.bundles)
    done = restore(made.backup, settings, clear=True)
    assert (done.records, done.anew) == ({}, [])
    assert done.keys > 0
    assert done.bundles
    assert done.checkpoint
    assert dump(settings)["marks"] != before["marks"]
    made.world.start("streams", "serving", "trainer")
    eventually_equal(lambda: marks(settings), end_marks(settings))
    result = audit(settings)
    assert result.ok, result.first_difference
    answer = eventually(lambda: with_model(made.world, examples=260), 60, "all is learned again")
    assert answer.receipt.fallback is None
    made.world.stop()
    assert dump(settings)["states"] == before["states"]
    assert newest_digest(settings) == digest, "the trainer is the one that was never lost, bit for bit"


def test_another_world_begins_with_what_this_one_knew(made: Made, tmp_path: Path) -> None:
    kafka = made.settings.kafka.model_copy(update={"prefix": f"other{made.settings.kafka.prefix}"})
    trainer = made.settings.trainer.model_copy(update={"directory": tmp_path / "t", "bundles": tmp_path / "models"})
    serving = made.settings.serving.model_copy(update={"bundles": tmp_path / "models"})
    other = made.settings.model_copy(update={"kafka": kafka, "trainer": trainer, "serving": serving})
    with pytest.raises(BackupError, match=r"is of the world .*--from-world"):
        restore(made.backup, other)
    slots = made.settings.redis.model_copy(update={"shards": 4})
    with pytest.raises(SettingsError, match="HEADWATER_REDIS__SHARDS=1"):
        restore(made.backup, made.settings.model_copy(update={"redis": slots}))
    try:
        done = restore(made.backup, other, from_world=made.settings.kafka.prefix)
        assert done.records["items"] == len(everything(made.settings.kafka, "items"))
        assert {"events", "items", "identities", "surfaces", "model"} <= {*done.anew}
        assert not marks(other)
        with (
            LiveWorker("streams.worker", other, tmp_path / "s.log"),
            LiveWorker("trainer.worker", other, tmp_path / "t.log") as learns,
        ):
            send_packed(other, [one.model_copy(update={"event_id": f"new-{one.event_id}"}) for one in walks(30)], 0)
            eventually_equal(lambda: marks(other), end_marks(other, EVENTS))
            found = audit_running(other)
            assert found.ok, found.differences
            assert found.older, "who came back with events of the log that is gone is not judged"
            assert dump(other)["people"] == dump(made.settings)["people"]
            eventually(lambda: learns.metric("headwater_example_gaps_total") == 1, 60, learns.tail)
            known = made.backup.told["records"]
            assert known["surfaces"] == 1
        assert not (tmp_path / "t" / "accept-gap").exists()
        _, header = read_checkpoint(max((tmp_path / "t").glob("checkpoint-*.ckpt")))
        assert header["extra"]["progress"]["gaps"], "none is left whose place is of the log that is gone"
    finally:
        remove_world(other)


def marks(settings: Settings) -> dict[int, int]:
    with storing(settings) as store:
        return store.marks()


def newest_digest(settings: Settings) -> str:
    return state_digest(max(settings.trainer.directory.glob("checkpoint-*.ckpt")))


def with_model(world: Replayed, examples: int) -> Any:
    answer = world.world.recommend("user-1")
    return answer if (answer.receipt.model_examples or 0) >= examples else None
