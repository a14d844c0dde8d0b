"""A sealed backup comes back as it was, or is refused with what is wrong: cut, damaged, exchanged, of later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from headwater.errors import SettingsError
from recovery import sealed
from recovery.places import BackupPlace, FolderFiles, open_place
from recovery.sealed import BackupError, SealedBackup, SealedWriter, backups_at, read_key
from tests.worlds.object_storage import Bucket, bucket, object_storage  # noqa: F401 - fixtures

KEY, OTHER = b"k" * 32, b"o" * 32
FRAMES = [("store", b"ada's history"), ("topic:items", b""), ("bundle", bytes(range(256)) * 40), ("store", b"end")]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "CHUNK_BYTES", 1000)


def written(place: BackupPlace, key: bytes | None, finish: bool = True) -> str:
    out = SealedWriter(place, key, now_ms=1_764_000_000_000)
    for kind, body in FRAMES:
        out.frame(kind, body)
    if finish:
        out.finish({"world": "w."})
    return out.name


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("where", ["folder", "objects"])
def test_frames_come_back_in_their_order(where: str, key: bytes | None, tmp_path: Path, bucket: Bucket) -> None:
    place = open_place(str(tmp_path / "backups") if where == "folder" else bucket.url)
    unfinished = written(place, key, finish=False)
    name = written(place, key)
    assert backups_at(place) == [name], "what was not finished is none"
    found = SealedBackup(place, name, key)
    assert list(found.frames()) == FRAMES
    assert found.told["world"] == "w."
    assert (b"ada's history" in place.get(f"{name}/000000")) is (key is None)
    place.delete(place.paths(unfinished))
    assert backups_at(place) == [name]


def cut(folder: Path) -> None:
    path = folder / "000004"
    path.write_bytes(path.read_bytes()[:-1])


def lose(folder: Path) -> None:
    (folder / "000010").unlink()


def exchange(folder: Path) -> None:
    """Two chunks, and what the manifest says of them."""
    one, two = (folder / f"00000{number}" for number in (2, 3))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def shorten(folder: Path) -> None:
    tell(folder, lambda told: told["chunks"].pop())


def rename_world(folder: Path) -> None:
    tell(folder, lambda told: told.update(world="other."))


def come_from_later(folder: Path) -> None:
    tell(folder, lambda told: told.update(format=2))


def spoil(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\x80 no JSON")


def tell(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "manifest.json"
    told = orjson.loads(path.read_bytes())
    change(told)
    path.write_bytes(orjson.dumps(told))


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut, "damaged: chunk 4 of"),
        (lose, "chunk 10 of 11 is missing"),
        (exchange, "damaged: chunk 2 of"),
        (shorten, "manifest.json was changed"),
        (rename_world, "manifest.json was changed"),
        (come_from_later, "format 2, and this release reads 1: restore it with the release that made it"),
        (spoil, "manifest.json cannot be read"),
    ],
)
def test_what_is_wrong_is_refused_by_name(
    harm: Callable[[Path], None], said: str, key: bytes | None, tmp_path: Path
) -> None:
    place = FolderFiles(tmp_path)
    name = written(place, key)
    harm(tmp_path / name)
    with pytest.raises(BackupError, match=said):
        list(SealedBackup(place, name, key).frames())


def test_a_chunk_of_another_backup_under_the_same_key_is_refused(tmp_path: Path) -> None:
    place = FolderFiles(tmp_path)
    mine, other = written(place, KEY), written(place, KEY)
    place.put(f"{mine}/000001", place.get(f"{other}/000001"))
    with pytest.raises(BackupError, match="chunk 1 of"):
        list(SealedBackup(place, mine, KEY).frames())


def test_keys_are_asked_for_and_read(tmp_path: Path) -> None:
    place = FolderFiles(tmp_path)
    name, plain = written(place, KEY), written(place, None)
    with pytest.raises(SettingsError, match="is encrypted: name the file of its key"):
        SealedBackup(place, name, None)
    with pytest.raises(BackupError, match="the key is not the one"):
        SealedBackup(place, name, OTHER)
    with pytest.raises(SettingsError, match="is not encrypted"):
        SealedBackup(place, plain, KEY)
    with pytest.raises(BackupError, match="never finished"):
        SealedBackup(place, "2026-01-01T000000Z-000000", KEY)
    file = tmp_path / "key"
    with pytest.raises(SettingsError, match="cannot be read"):
        read_key(file)
    file.write_bytes(KEY)
    assert read_key(file) == KEY
    file.write_text(OTHER.hex() + "\n")
    assert read_key(file) == OTHER
    file.write_text("secret")
    with pytest.raises(SettingsError, match="openssl rand -hex 32"):
        read_key(file)
    with pytest.raises(SettingsError, match="neither a folder nor"):
        open_place("ftp://host/x")
