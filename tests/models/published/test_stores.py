"""Bundles in a folder and in object storage: there whole or not at all, and what stands in the way is told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from headwater.errors import BundleError, SettingsError, Unavailable
from headwater.settings import load_settings
from models.published.bundle import Bundle
from models.published.layout import bundle_name
from models.published.packed_weights import pack_arrays
from models.published.stores import BundleStore, newest_version, objects, open_store
from tests.worlds.object_storage import SECRET, Bucket, bucket, object_storage  # noqa: F401 - fixtures
from tests.worlds.serving import trained


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    made = trained().publish(created_ms=1, full=True)
    assert isinstance(made, Bundle)
    return made


def later(bundle: Bundle, version: int) -> Bundle:
    made = bundle.copy()
    made.version = version
    return made


@pytest.fixture(params=["folder", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path, bucket: Bucket) -> BundleStore:
    return open_store(tmp_path / "models" if request.param == "folder" else bucket.url)


def test_a_bundle_is_kept_listed_read_and_removed(store: BundleStore, bundle: Bundle) -> None:
    assert store.names() == []
    names = [store.write(later(bundle, version)) for version in (10, 9)]
    assert store.names() == names[::-1] == [bundle_name(later(bundle, version)) for version in (9, 10)]
    assert newest_version(store.names()) == 10
    heard: list[None] = []
    again = store.read(names[0], lambda: heard.append(None))
    assert (again.digest, again.items, again.graph, again.version) == (bundle.digest, bundle.items, bundle.graph, 10)
    assert all(np.array_equal(again.weights[name], array) for name, array in bundle.weights.items())
    assert len(heard) >= 4
    store.remove(names[0])
    store.remove("v00000099-0123")
    assert store.names() == names[1:]
    with pytest.raises(BundleError, match=r"is no bundle .*check `bundles` in the settings"):
        store.read(names[0])


def test_weights_are_writable_and_lie_apart(store: BundleStore, bundle: Bundle) -> None:
    for array in store.read(store.write(bundle)).weights.values():
        assert array.flags.writeable
        assert array.base is None, "a view would keep all of a file in memory for the sake of one array"


def test_what_is_there_already_is_not_written_again(bucket: Bucket, bundle: Bundle) -> None:
    open_store(bucket.url).write(bundle)
    bucket.server.asked.clear()
    open_store(bucket.url).write(bundle)
    assert not [path for method, path in bucket.server.asked if method == "PUT"]


def test_an_upload_that_breaks_off_goes_on_behind_what_was_taken(
    bucket: Bucket, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = sum(map(len, pack_arrays(bundle.weights))) // 6
    monkeypatch.setattr(objects, "PIECE_BYTES", piece)
    store = open_store(bucket.url)
    bucket.server.refuses = lambda _, path: 503 if path.endswith("weights.packed.0003") else None
    with pytest.raises(Unavailable, match=r"weights.packed.0003 could not be written"):
        store.write(bundle)
    assert store.names() == [], "it is no bundle before its metadata are there"
    with pytest.raises(BundleError, match="is no bundle"):
        store.read(bundle_name(bundle))
    taken = len(bucket.objects)
    bucket.back()
    bucket.server.asked.clear()
    name = store.write(bundle)
    written = [path for method, path in bucket.server.asked if method == "PUT"]
    assert len(written) == len(bucket.objects) - taken
    assert written[0].endswith("weights.packed.0003")
    assert written[-1].endswith("metadata.json")
    assert max(map(len, bucket.objects.values())) <= piece
    assert open_store(bucket.url).read(name).digest == bundle.digest


def test_what_a_kill_left_of_an_upload_is_removed_and_nothing_else(bucket: Bucket, bundle: Bundle) -> None:
    store = open_store(bucket.url)
    whole = store.write(bundle)
    bucket.put("v00000002-aaaa/weights.packed.0000", b"half")
    bucket.put("somebody-elses/file", b"theirs")
    store.clear_torn()
    assert {key.partition("/")[0] for key in bucket.objects} == {whole, "somebody-elses"}


def test_an_upload_of_which_somebody_else_removed_a_piece_is_no_bundle_before_that_is_there_again(
    bucket: Bucket, bundle: Bundle
) -> None:
    store, another = open_store(bucket.url), open_store(bucket.url)
    bucket.server.refuses = lambda _, path: 503 if path.endswith("metadata.json") else None
    with pytest.raises(Unavailable, match=r"metadata.json could not be written"):
        store.write(bundle)
    bucket.back()
    another.clear_torn()
    assert another.read(store.write(bundle)).digest == bundle.digest

    def take_away(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("weights.packed"):
            bucket.delete(f"{bundle_name(next_one)}/graph.onnx")

    next_one = later(bundle, bundle.version + 1)
    bucket.server.refuses = take_away
    with pytest.raises(Unavailable, match=r"somebody removed .*/graph.onnx while the bundle was written"):
        store.write(next_one)
    assert len(store.names()) == 1
    bucket.back()
    assert another.read(store.write(next_one)).version == next_one.version


@pytest.mark.parametrize(
    ("refused", "remedy"),
    [
        (503, r"is it away\? Check the network and AWS_ACCESS_KEY_ID, .*AWS_ENDPOINT_URL"),
        (403, "we are not let in: check AWS_ACCESS_KEY_ID, .*to list, read, write and delete must be allowed"),
        ("cut", r"is it away\?"),
    ],
)
def test_a_store_that_does_not_answer_says_nothing_of_a_bundle(
    bucket: Bucket, bundle: Bundle, refused: int | str, remedy: str
) -> None:
    store = open_store(bucket.url)
    name = store.write(bundle)
    bucket.server.refuses = lambda *_: refused
    for ask in (lambda: store.read(name), store.names, lambda: store.remove(name)):
        with pytest.raises(Unavailable, match=remedy) as told:
            ask()
        assert SECRET not in str(told.value)
        assert "<Error>" not in str(told.value)
    bucket.back()
    assert store.read(name).digest == bundle.digest


def test_a_connection_that_is_cut_in_the_middle_of_the_weights_is_no_damage(bucket: Bucket, bundle: Bundle) -> None:
    store = open_store(bucket.url)
    name = store.write(bundle)
    bucket.server.refuses = lambda _, path: "cut" if path.endswith("weights.packed") else None
    with pytest.raises(Unavailable, match=r"weights.packed could not be read"):
        store.read(name)


def test_a_bucket_that_is_not_there_is_told_apart_from_a_missing_object(bucket: Bucket) -> None:
    with pytest.raises(Unavailable, match="there is no such bucket: make it"):
        open_store("s3://no-such-bucket/models").names()
    with pytest.raises(BundleError, match="is no bundle"):
        open_store(bucket.url).read("v00000001-abcd")


@pytest.mark.parametrize("file", ["graph.onnx", "items.json", "weights.packed", "metadata.json"])
@pytest.mark.parametrize("damage", ["flipped", "partial", "empty", "missing"])
def test_a_damaged_object_ends_as_a_refused_bundle_with_its_remedy(
    bucket: Bucket, bundle: Bundle, file: str, damage: str
) -> None:
    store = open_store(bucket.url)
    name = store.write(bundle)
    key = f"{name}/{file}"
    whole = bucket.objects[key]
    middle = len(whole) // 2
    if damage == "missing":
        bucket.delete(key)
    else:
        damaged = {"flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], "empty": b""}
        bucket.put(key, damaged.get(damage, whole[:-9]))
    with pytest.raises(BundleError, match="delete the folder"):
        store.read(name)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(SettingsError, match=r"pip install 'headwater-engine\[cloud\]'"):
        open_store("s3://bucket/models")
    open_store(Path("models"))


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("models", Path("models")),
        ("file:///var/my%20models", Path("/var/my models")),
        ("s3://bucket/deep/er/", "s3://bucket/deep/er"),
        ("gs://bucket", "gs://bucket"),
        ("az://container/x", "az://container/x"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
    ],
)
def test_an_address_is_a_folder_or_a_url(given: str, means: Path | str) -> None:
    assert load_settings(trainer={"bundles": given}).trainer.bundles == means


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("s3://key:hush@bucket/x", "credentials come from the environment"),
        ("s3://key@bucket/x", "credentials come from the environment"),
        ("s3://bucket/x?secret=hush", "credentials come from the environment"),
        ("s3:///x", "is neither a folder nor"),
        ("ftp://hush/x", "is neither a folder nor"),
        ("file://host/x", "is neither a folder nor"),
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(given: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"trainer.bundles: .*{why}") as told:
        load_settings(trainer={"bundles": given})
    assert "hush" not in str(told.value)


@pytest.mark.parametrize("given", ["no url", "objects:7070", "http://", "ftp://objects"])
def test_an_endpoint_that_is_none_is_named_and_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", given)
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL in the environment is no http"):
        open_store("s3://bucket/models")


def test_credentials_that_end_in_a_line_break_are_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}\n")
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY in the environment begins or ends in white") as told:
        open_store("s3://bucket/models")
    assert SECRET not in str(told.value)
