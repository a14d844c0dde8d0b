"""Where public keys are given, only what one of them signed for this world is served: by somebody who may write to
every topic and to the bundles' place, and has no key."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kafka import KafkaProducer
from pydantic import SecretStr

from console.look.models_listed import signatures
from headwater.errors import BundleError, InvalidMessage, SettingsError
from headwater.kafka import read_topic
from headwater.settings import Settings, SigningSettings, load_settings
from headwater.topics import MODEL, MODEL_DELTAS
from models.learner import Learner
from models.published.announcement import LIVE, Announcement, DeltaHeaders, snapshot_key
from models.published.bundle import Bundle
from models.published.delta import encode_delta
from models.published.layout import METADATA, pack_bundle, pack_metadata
from models.published.signing.documents import key_id, make_key, printed_key
from models.published.signing.records import Announcements
from models.published.signing.trust import SIGNATURE, Trust, UntrustedBundleError, trust_of
from models.published.stores.folder import FolderStore
from tests.serving.test_follower import Follower, bundle_of, delta_of
from tests.worlds.commands import headwater
from tests.worlds.publishing import LOG, settings, writer  # noqa: F401 - fixtures
from tests.worlds.serving import FILMS, trained
from trainer.announced import models_listed
from trainer.registry import Registry
from trainer.rollback import rollback

Header = tuple[str, bytes]

OURS, NEXT, THEIRS = (Ed25519PrivateKey.generate() for _ in range(3))
TAKEN = {key_id(key.public_key()): key.public_key() for key in (OURS, NEXT)}
AT = "model[0]@7"


def by(key: Ed25519PrivateKey, world: str = "w.") -> Trust:
    return Trust(world, key, TAKEN)


class SignedFollower(Follower):
    """A follower that takes what two keys sign for the world `w.`, and a trainer that has one of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FolderStore(folder, by(OURS)), by(OURS))
        self.learner = trained(FILMS[:6], rounds=1)
        self.serial = 100

    def bundle(self) -> tuple[Bundle, bytes]:
        made = bundle_of(self.learner)
        return made, self.write(made)

    def headers(self, key: bytes, value: bytes | None, trust: Trust | None = None) -> list[Header]:
        self.serial += 1
        return (trust or by(OURS)).headers(MODEL, key, value, [], self.serial)

    def told(self, key: bytes, value: bytes | None, headers: list[Header] | None = None) -> int | None:
        given = self.headers(key, value) if headers is None else headers
        self.model.announce(key, value, AT, given)
        return self.model.load()

    def sent(self, trust: Trust | None = None, change: Callable[[bytes], bytes] = bytes) -> list[tuple[Any, ...]]:
        """A delta of the trainer, as arguments of `ModelFollower.delta`."""
        delta = delta_of(self.learner)
        parts = encode_delta(delta)
        headers = [DeltaHeaders(delta.version, delta.parent_version, len(parts), 11, n).encode() for n in range(1)]
        signed = (trust or by(OURS)).headers(MODEL_DELTAS, b"k", parts[0], headers[0], 1)
        return [(signed, change(parts[0]), "model-deltas[0]@3", b"k")]


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> SignedFollower:
    """One that holds a model; each test leaves it with the newest that is genuine."""
    made = SignedFollower(tmp_path_factory.mktemp("bundles"))
    assert made.told(LIVE, made.bundle()[1]) is not None
    return made


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest) -> None:
    if "follower" in request.fixturenames:
        request.getfixturevalue("follower").refused.clear()


def test_what_the_trainer_signs_is_followed_with_either_key(follower: SignedFollower) -> None:
    assert follower.model.delta(*follower.sent()[0])
    assert follower.model.delta(*follower.sent(by(NEXT))[0])
    value = follower.bundle()[1]
    assert follower.told(LIVE, value, follower.headers(LIVE, value, by(NEXT))) is not None
    assert not follower.refused


def renumbered(header: Header) -> Header:
    return SIGNATURE, orjson.dumps(orjson.loads(header[1]) | {"serial": 10**9})


FORGED: dict[str, tuple[str, Callable[[SignedFollower, bytes, bytes | None], list[Header]]]] = {
    "without a signature": ("unsigned", lambda *_: []),
    "by another's key": ("unknown_key", lambda one, key, value: one.headers(key, value, by(THEIRS))),
    "for another world": ("other_world", lambda one, key, value: one.headers(key, value, by(OURS, "v."))),
    "with the signature of another record": ("wrong_signature", lambda one, key, _: one.headers(key, b"{}")),
    "with that of another key of the topic": ("wrong_signature", lambda one, _, value: one.headers(b"live2", value)),
    "with a signature that is none": ("wrong_signature", lambda *_: [(SIGNATURE, b"\xff{")]),
    "with a huge one": ("wrong_signature", lambda *_: [(SIGNATURE, b"[" * 100_000)]),
    "with two": ("wrong_signature", lambda one, key, value: one.headers(key, value) * 2),
    "with a newer number": (
        "wrong_signature",
        lambda one, key, value: [renumbered(one.headers(key, value)[0])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", FORGED)
def test_an_announcement_is_refused_and_the_last_good_model_stays(follower: SignedFollower, how: str) -> None:
    reason, forge = FORGED[how]
    held, value = follower.scorer.version, follower.bundle()[1]
    for key, told in ((LIVE, value), (b"snapshot:1", None), (LIVE, None)):
        assert follower.told(key, told, forge(follower, key, told)) is None
    assert (follower.scorer.version, dict(follower.refused)) == (held, {reason: 3})


def test_a_genuine_announcement_that_is_sent_again_leads_nobody_back(follower: SignedFollower) -> None:
    value = follower.bundle()[1]
    old = follower.headers(LIVE, value)
    assert follower.told(LIVE, value, old) is not None
    assert follower.told(LIVE, follower.bundle()[1]) is not None
    held = follower.scorer.version
    assert follower.told(LIVE, value, old) is None
    assert (follower.scorer.version, dict(follower.refused)) == (held, {"stale": 1})


def test_a_delta_of_nobody_we_trust_is_refused_and_the_genuine_one_follows(follower: SignedFollower) -> None:
    (headers, value, at, key), *_ = genuine = follower.sent()
    told = dict(headers)
    for forged in (
        (headers[:-1], value, at, key),  # no signature
        (headers, value[:-1] + bytes([value[-1] ^ 1]), at, key),
        (headers, value, at, b"other"),
        ([*headers, ("published-time", b"99")], value, at, key),  # whoever reads goes by the last one
        (by(THEIRS).headers(MODEL_DELTAS, key, value, headers[:-1], 1), value, at, key),
        (by(OURS, "v.").headers(MODEL_DELTAS, key, value, headers[:-1], 1), value, at, key),
        ([*headers[:-1], (SIGNATURE, follower.headers(key, value)[0][1])], value, at, key),  # of another topic
    ):
        assert not follower.model.delta(*forged)
    assert follower.refused == {"unsigned": 1, "wrong_signature": 4, "unknown_key": 1, "other_world": 1}
    assert follower.model.delta([*told.items(), ("traceparent", b"of whoever carried it")], *genuine[0][1:])


def test_while_a_rollback_holds_no_old_delta_leads_away_from_it(follower: SignedFollower) -> None:
    bundle, value = follower.bundle()
    follower.told(LIVE, value)
    follows = follower.sent()[0]
    pinned = orjson.dumps(orjson.loads(value) | {"pinned": True})
    assert follower.told(LIVE, pinned) is None, "it is held already"
    assert not follower.model.delta(*follows)
    assert (follower.scorer.version, dict(follower.refused)) == (bundle.version, {"pinned": 1})
    assert follower.told(LIVE, value) is None
    assert follower.model.delta(*follows), "resumed"


def rewritten(folder: Path, bundle: Bundle) -> None:
    """A bundle's folder as somebody makes it who knows all about bundles."""
    contents = pack_bundle(bundle)
    for name, parts in contents.items():
        (folder / name).write_bytes(b"".join(parts))
    (folder / METADATA).write_bytes(pack_metadata(bundle, contents))


@pytest.mark.parametrize(
    "change",
    [
        lambda bundle: {"graph": bundle.graph + b"\x00"},
        lambda _: {"metrics": {"ndcg_at_10": 1.0}},
        lambda bundle: {"extra": bundle.extra | {"examples_seen": 10**6}},
        lambda _: {"reasons": {"x": "buy this"}},
        lambda _: {"created_ms": 10**12},
        lambda _: {"signature": None},
        lambda bundle: {"signature": {**(bundle.signature or {}), "key_id": key_id(THEIRS.public_key())}},
        lambda _: {"signature": {"key_id": ["list"], "value": {}}},
    ],
)
def test_a_bundle_that_was_changed_in_its_place_is_refused(
    follower: SignedFollower, change: Callable[[Bundle], dict[str, Any]]
) -> None:
    from dataclasses import replace

    held = follower.scorer.version
    value = follower.bundle()[1]
    assert isinstance(follower.store, FolderStore)
    name = Announcement.model_validate_json(value).bundle
    good = follower.store.read(name)
    rewritten(follower.store.directory / name, replace(good, **change(good)))
    with pytest.raises(UntrustedBundleError, match="find out who writes there"):
        follower.store.read(name)
    assert follower.told(LIVE, value) is None
    assert (follower.scorer.version, dict(follower.refused)) == (held, {"untrusted": 1})


@pytest.mark.parametrize("name", ["item_bias", "memory0_weights", "ranker_linear"])
def test_the_same_bytes_as_numbers_of_another_kind_are_another_model(follower: SignedFollower, name: str) -> None:
    from dataclasses import replace

    held, value = follower.scorer.version, follower.bundle()[1]
    assert isinstance(follower.store, FolderStore)
    folder = follower.store.directory / Announcement.model_validate_json(value).bundle
    good = follower.store.read(folder.name)
    rewritten(folder, replace(good, weights=good.weights | {name: good.weights[name].view("int32")}))
    with pytest.raises(BundleError, match="content has digest"):
        follower.store.read(folder.name)
    assert follower.told(LIVE, value) is None
    assert (follower.scorer.version, dict(follower.refused)) == (held, {"bundle": 1})


def test_a_genuine_bundle_in_the_place_of_another_is_refused(follower: SignedFollower) -> None:
    held = follower.scorer.version
    names = [Announcement.model_validate_json(follower.bundle()[1]).bundle for _ in range(2)]
    assert isinstance(follower.store, FolderStore)
    shutil.rmtree(follower.store.directory / names[1])
    shutil.copytree(follower.store.directory / names[0], follower.store.directory / names[1])
    with pytest.raises(BundleError, match="not what its name says"):
        follower.store.read(names[1])
    assert follower.scorer.version == held


@pytest.mark.parametrize(
    "name", ["../v00000001-ab", "/etc/v1-ab", "v1-ab/..", "v00000001-AB", "..", ".", "", "v1-ab\n"]
)
def test_a_bundle_s_name_is_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    store = FolderStore(tmp_path / "outside")
    for verb in (store.read, store.remove):
        with pytest.raises(BundleError, match="no name of a bundle"):
            verb(name)
    value = orjson.dumps({"version": 1, "digest": "ab", "bundle": name, "parent": None, "delta_offset": 0,
                          "published_time": 1, "examples_offset": 0, "metrics": {}})  # fmt: skip
    if "/" in name or name in ("..", ".", "", "v1-ab\n"):
        with pytest.raises(InvalidMessage):
            Announcements().read(LIVE, value)


def test_a_bundle_that_is_packed_anew_without_a_key_keeps_its_signature(
    follower: SignedFollower, tmp_path: Path
) -> None:
    """As a backup and a restore do."""
    bundle = follower.store.read(Announcement.model_validate_json(follower.bundle()[1]).bundle)
    for trust in (Trust("other.", None, TAKEN), Trust("other.", NEXT, TAKEN)):
        folder = FolderStore(tmp_path / str(trust.signer is None), trust)
        assert folder.read(folder.write(bundle)).signature


def test_without_keys_no_byte_is_another() -> None:
    bundle = bundle_of(Learner(trained(FILMS[:2], rounds=1).config, seed=1))
    contents = pack_bundle(bundle)
    assert SIGNATURE not in orjson.loads(pack_metadata(bundle, contents, trust=Trust()))
    assert Trust().headers(MODEL, LIVE, b"x", [("part", b"0")], 7) == [("part", b"0")]
    assert trust_of(load_settings()) == Trust()


def signing(key: Path | None = None, **more: Any) -> SigningSettings:
    return SigningSettings(secret_key_file=key, **more)


def test_settings_take_a_file_its_text_or_its_middle_line_and_several_public_keys(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    text = (tmp_path / "key.pem").read_text()
    word, other = printed_key(key.public_key()), printed_key(THEIRS.public_key())
    for given in (
        {"secret_key_file": tmp_path / "key.pem"},
        {"secret_key": text},
        {"secret_key": text.splitlines()[1]},
    ):
        trust = trust_of(load_settings(signing={**given, "public_keys": f" {word} , {other},"}))
        assert len(trust.keys) == 2
        assert trust.signer is not None
    with pytest.raises(SettingsError, match=r"not among signing.public_keys"):
        trust_of(load_settings(signing={"secret_key_file": tmp_path / "key.pem", "public_keys": other}))
    with pytest.raises(SettingsError, match=r"nothing to sign with: set signing.secret_key_file"):
        trust_of(load_settings(signing={"public_keys": other})).may_publish()
    with pytest.raises(SettingsError, match="public_keys: 'ed25519:short' is no public key"):
        load_settings(signing={"public_keys": "ed25519:short"})
    with pytest.raises(SettingsError, match=r"signing.secret_key holds no unencrypted Ed25519 key") as refused:
        trust_of(load_settings(signing={"secret_key": SecretStr("canary")}))
    assert "canary" not in str(refused.value)


def test_the_command_makes_a_key_shows_it_and_writes_over_none(tmp_path: Path) -> None:
    made = headwater("signing", "make", f"{tmp_path}/key.pem")
    shown = headwater("signing", "show", f"{tmp_path}/key.pem", "--json")
    assert made.stdout.strip() == orjson.loads(shown.stdout)["public_key"]
    assert "HEADWATER_SIGNING__PUBLIC_KEYS" in made.stderr
    assert headwater("signing", "make", f"{tmp_path}/key.pem").returncode == 2


def test_a_trainer_writes_again_what_others_wrote_over_and_a_rollback_needs_a_key(
    settings: Settings,
    writer: KafkaProducer,
    tmp_path: Path,
) -> None:
    key = make_key(tmp_path / "key.pem")
    keys = signing(tmp_path / "key.pem", public_keys=printed_key(key.public_key()))
    settings = settings.model_copy(update={"signing": keys})
    topic = f"{settings.kafka.prefix}model"
    trust = trust_of(settings)
    said = Announcement(
        version=3, digest="d", bundle="v3-d", parent=None, delta_offset=0, published_time=1, examples_offset=0,
        metrics={},
    )  # fmt: skip
    with closing(Registry(settings.kafka, writer, LOG, trust=trust)) as registry:
        registry.add(said)
        assert registry.offer_live(said)
        for name, value in ((LIVE, said.encode()), (LIVE, None), (snapshot_key(3), None), (snapshot_key(4), b"{}")):
            writer.send(topic, value, name).get(timeout=10)
        registry.refresh()
        assert (registry.live, registry.snapshots) == (said, {3: said})
        assert dict(registry.foreign) == {("model", "unsigned"): 4}
        registry.heal()
        registry.heal()
        records = list(read_topic(settings.kafka, MODEL))
        assert len(records) == 2 + 4 + 2
        newest = {record.key: record.offset for record in records if record.key != snapshot_key(4)}
        left = [record for record in records if newest.get(record.key) == record.offset]  # by compaction
        reader = Announcements(trust)
        found = [reader.read(one.key, one.value, one.headers) for one in left]
        assert sorted(found) == [(0, said), (3, said)]

        with closing(Registry(settings.kafka, writer, LOG, trust=trust)) as other:  # a clock that is far ahead
            ahead = trust.headers(MODEL, LIVE, said.encode(), [], 10**14)
            writer.send(topic, said.encode(), LIVE, headers=ahead).get(timeout=10)
            pinned = said.model_copy(update={"pinned": True})
            other.set_live(pinned)
            registry.refresh()
            assert registry.live == pinned
    shown = signatures(settings, models_listed(settings))
    assert [(one.state, "is signed by key" in one.text) for one in shown] == [("ok", True)]
    without = settings.model_copy(update={"signing": signing(public_keys=keys.public_keys)})
    with pytest.raises(SettingsError, match="nothing to sign with"):
        rollback(without, 3)
