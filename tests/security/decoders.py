"""Every decoder of what others wrote, with genuine inputs: for `fuzzing`."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import lz4.block
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from headwater.errors import BundleError, InvalidMessage, NewerFormat, RequestRefused, SettingsError
from headwater.events import Event
from headwater.examples import unpack
from headwater.filters import read_filters
from headwater.privacy import digest_of, fact_of, read_erasure
from headwater.privacy.audit_log import read_audit_record
from headwater.privacy.consents import read_consent
from headwater.topics import MODEL, MODEL_DELTAS
from headwater.wire import (
    TimeBounds,
    cloudevent_headers,
    decode_catalogue_record,
    decode_recommendation,
    decode_request,
    decode_surface_record,
    decode_user_record,
    encode,
    encode_packed,
    read_events,
    read_identity,
    read_letter,
)
from models.published.announcement import LIVE, Announcement, DeltaHeaders, read_delta_headers
from models.published.bundle import Bundle
from models.published.delta import MAGIC, Delta, DeltaAssembler, encode_delta
from models.published.layout import METADATA, pack_bundle, pack_metadata, unpack_bundle
from models.published.packed_weights import pack_arrays, read_arrays
from models.published.signing.documents import key_id
from models.published.signing.records import Announcements, read_delta
from models.published.signing.trust import Trust
from models.published.weights_file import HashedStream, pack_weights, read_weights
from streams.features.identity import decode_links
from streams.features.packed.codec import decode as decode_state
from tests.security.fuzzing import Decoder, Parts

EVENT = Event(
    user_id="ann", item_id="film-1", type="click", value=3.5, event_time=1_700_000_000_000, properties={"a": 1}
)
SHOWN = Event(user_id="ann", type="impression", items=("film-1", "film-2"), request_id="r1", session_id="s")
TIMES = TimeBounds(0, 1_800_000_000_000, 60_000)

FILTERS = {
    "categories": {"any": ["horror"]}, "year": {"gte": 1990, "lt": 2000}, "and": [{"not": {"brand": "x"}}],
    "place": {"near": {"lat": 52.5, "lon": 13.4, "km": 5}},
}  # fmt: skip

OURS = Ed25519PrivateKey.generate()
TRUST = Trust("w.", OURS, {key_id(OURS.public_key()): OURS.public_key()})


def _events(parts: Parts) -> Any:
    key, value, kind, moment = parts
    headers = [("ce_id", kind), ("ce_time", moment), ("ce_type", kind), ("ce_specversion", b"1.0")]
    return read_events(
        value, key=key, headers=headers, partition=0, offset=7, timestamp_ms=1_700_000_000_000, times=TIMES
    )  # type: ignore[arg-type]


def _letter(parts: Parts) -> Any:
    names = ("reason", "source-topic", "source-partition", "source-offset", "source-index")
    return read_letter(list(zip(names, parts, strict=True)))


def _filters(parts: Parts) -> Any:
    try:
        body = orjson.loads(parts[0] or b"")
    except orjson.JSONDecodeError:
        return None
    return read_filters(body) if isinstance(body, dict) else None


def _delta_headers(parts: Parts) -> Any:
    names = ("version", "parent", "parts", "published-time", "part", "signature")
    headers = list(zip(names, parts, strict=True))
    read_delta(TRUST, b"k", b"v", headers)
    return read_delta_headers(headers)


def records() -> list[Decoder]:
    """Of the records of topics."""
    from tests.worlds.example_logs import catalogue, ring_records
    from trainer.shares import ShareDecision, read_decision

    refuses = (InvalidMessage,)
    ce = dict(cloudevent_headers(EVENT, "/test"))
    single = (b"ann", encode(EVENT), ce["ce_type"], ce["ce_time"])
    packed = (None, encode_packed([EVENT, SHOWN, EVENT]), None, None)
    item = {
        "item_id": "film-1",
        "title": "Alien",
        "categories": ["horror"],
        "attributes": {"year": 1979, "tags": ["a"]},
    }
    asked = {
        "request_id": "r1", "user_id": "ann", "k": 5, "filters": FILTERS, "surface": "home", "context": {"page": "a"},
        "recent_events": [{"item_id": "film-1", "type": "click"}], "candidates": ["a", "b"], "explain": True,
    }  # fmt: skip
    answer = {
        "request_id": "r1", "user_id": "ann", "answered_time": 1, "error": None,
        "items": [{"item_id": "a", "rank": 1, "score": 0.5, "reasons": ["popular"]}],
        "receipt": {"model_version": 3, "timings_ms": {"total": 1.5}, "feature_offsets": {"0": 7}},
    }  # fmt: skip
    surface = {"kind": "for-you", "k": 10, "filters": FILTERS}
    erasure, fact = {"user_id": "ann", "erased_time": 5}, fact_of("ann", _erased())
    consent = {"user_id": "ann", "personalise": True, "train": False, "consent_time": 5}
    identity = {"user_id": "ann", "was": "guest-7", "linked": True}
    audit = {"action": "rollback", "by": "x", "host": "h", "time": "2026-01-01T00:00:00Z", "detail": {}, "after": [],
             "digest": "d"}  # fmt: skip
    said = Announcement(
        version=3, digest="d" * 64, bundle="v00000003-dd", parent="c", delta_offset=9, published_time=5,
        examples_offset=2, metrics={"ndcg": {"x": 0.5}},
    ).encode()  # fmt: skip
    signature = TRUST.headers(MODEL, LIVE, said, [], 7)[0][1]
    headers = DeltaHeaders(3, 2, 1, 9, 0).encode()
    of_delta = TRUST.headers(MODEL_DELTAS, b"k", b"v", headers, 9)[-1][1]

    def json(body: Any) -> bytes:
        return orjson.dumps(body)

    def keyed(read: Callable[..., Any]) -> Callable[[Parts], Any]:
        return lambda parts: read(parts[0], parts[1], "topic[0]@7")

    return [
        Decoder("events", [single, packed, (b"ann", encode(SHOWN), None, None)], _events, (), 4),
        Decoder(
            "identities", [(b"ann", json(identity))],
            lambda parts: read_identity(parts[1], key=parts[0], partition=0, offset=7, timestamp_ms=9), (), 2,
        ),
        Decoder("items", [(b"film-1", json(item))], keyed(decode_catalogue_record), refuses, 2),
        Decoder("users", [(b"ann", json({"user_id": "ann", "attributes": {"plan": "a", "age": 3}}))],
                keyed(decode_user_record), refuses, 2),
        Decoder("surfaces", [(b"home", json(surface))], keyed(decode_surface_record), refuses),
        Decoder("erasures", [(b"ann", json(erasure)), (digest_of("ann").encode(), fact.model_dump_json().encode())],
                keyed(read_erasure), refuses),
        Decoder("consents", [(b"ann", json(consent))], keyed(read_consent), refuses),
        Decoder("requests", [(json(asked),), (json({"user_id": "ann"}),)],
                lambda parts: decode_request(parts[0], 9), refuses, 2),
        Decoder("filters of a request", [(json(FILTERS),)], _filters, (RequestRefused,), 2),
        Decoder("recommendations", [(json(answer),)], lambda parts: decode_recommendation(parts[0]), refuses),
        Decoder("examples", [(one,) for one in (*ring_records(60), catalogue(3), *_written_examples())],
                lambda parts: list(unpack(parts[0] or b"")), refuses, 2),
        Decoder("learning", [(ShareDecision(offset=7, share=0.25, why="behind").encode(),)],
                lambda parts: read_decision(parts[0]), refuses),
        Decoder("dead letters", [(b"schema", b"events", b"0", b"7", b"0")], _letter, ()),
        Decoder("audit", [(json(audit),)], lambda parts: read_audit_record(parts[0]), ()),
        Decoder("model", [(LIVE, said), (b"snapshot:3", said)],
                lambda parts: Announcements().read(parts[0], parts[1]), refuses, 2),
        Decoder("model, signed", [(LIVE, said, signature)],
                lambda parts: Announcements(TRUST).read(parts[0], parts[1], [("signature", parts[2])]), refuses),
        Decoder("headers of model-deltas", [(*(value for _, value in headers), of_delta)],
                _delta_headers, refuses),
    ]  # fmt: skip


def _erased() -> Any:
    from headwater.privacy import Erased

    return Erased(5, 0, 7)


def _written_examples() -> list[bytes]:
    """Records with packed histories, lists, contexts and what else a segment may have."""
    from headwater.examples import Entry, EventPosition, Segment, Shown, pack_segments
    from headwater.histories import PackedHistory

    history = [Entry(f"i{n % 9}", "click", 10**12 + n, float(n % 5), n // 9) for n in range(300)]
    target = Entry("i3", "click", 2 * 10**12, None)
    long = PackedHistory.of(history)
    return [
        pack_segments(0, [Segment("ann", long, [target], [EventPosition(9, 0)])], 1000, 100),
        pack_segments(
            1,
            [Segment("bob", history[:5], [target], [EventPosition(9, 0)], shown=(Shown("i1", 5, 0, "l"),))],
            None,
            100,
        ),
    ]


def states() -> list[Decoder]:
    """Of what the store keeps of users."""
    from headwater.examples import Entry, Shown
    from streams.features.packed import encode as encode_state
    from streams.features.state import UserState

    entries = [Entry(f"film-{n * 7 % 90}", "click", 10**12 + n * 900, float(n % 5), n // 9) for n in range(400)]
    some = [
        UserState(entries[:n], list(range(n))[-128:], n, 1, 2 * n, 10**12, shown=(Shown("a", 5, 0, "l"),))
        for n in (1, 12, 400)
    ]
    links = b'{"users":{},"guests":{"guest-7":"1000 0 0 1"}}'
    wrong = (InvalidMessage, NewerFormat)
    plain = orjson.dumps({"count": 1, "history": [["a", "click", 5, None, None]], "recent": [7], "partition": 0,
                          "offset": 3, "folded_ms": 9})  # fmt: skip
    return [
        Decoder("a user's state", [(encode_state(one), None) for one in some] + [(plain, None)],
                lambda parts: decode_state(parts[0], parts[1]), wrong, 2),
        Decoder("a user's state, sealed", [(encode_state(one),) for one in some], _sealed_state, wrong, 2),
        Decoder("links", [(links,)], lambda parts: decode_links(parts[0]), wrong),
    ]  # fmt: skip


def _sealed_state(parts: Parts) -> Any:
    """With a checksum of what is there now."""
    from streams.features.packed.codec import HEAD, NUMBER

    base = parts[0] or b""
    head = HEAD.match(base)
    if head is not None and len(base) > head.end() + 4:
        rest = base[head.end() + 4 :]
        base = base[: head.end()] + NUMBER.pack(zlib.crc32(rest, zlib.crc32(base[: head.end()]))) + rest
    return decode_state(base)


class HeldPlace:
    """A place of backups in memory."""

    address = "here"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def get(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]


def backups() -> list[Decoder]:
    """Of a backup that is not encrypted, whose seal anybody can make."""
    from recovery.sealed import MANIFEST, BackupError, SealedBackup, SealedWriter, packed, unpacked

    held = HeldPlace()
    writer = SealedWriter(held, None, 10**12)  # type: ignore[arg-type]
    writer.frame("topic", packed([b"events", packed([packed([b"[0,5]", b"ann", None, b"h", b"v"])])]))
    writer.finish({"world": "w."})
    chunk = next(data for path, data in held.files.items() if not path.endswith(MANIFEST))

    def read(parts: Parts) -> Any:
        place = HeldPlace()
        manifest, data = (part or b"" for part in parts)
        try:
            told = orjson.loads(manifest)
            told["chunks"] = [hashlib.sha256(data).hexdigest(), *told["chunks"][1:]]
            told.pop("seal", None)
            told["seal"] = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()
            manifest = orjson.dumps(told)
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            pass
        place.files = {f"x/{MANIFEST}": manifest, "x/000000": data}
        for _, body in SealedBackup(place, "x", None).frames():  # type: ignore[arg-type]
            unpacked(body)

    return [Decoder("backups, sealed", [(held.files[f"{writer.name}/{MANIFEST}"], chunk)], read,
                    (BackupError, SettingsError))]  # fmt: skip


def bundles() -> list[Decoder]:
    """Of what a trainer publishes."""
    from tests.worlds.serving import FILMS, trained, walk

    learner = trained(FILMS[:4], rounds=1)
    held = learner.publish(created_ms=1, full=True)
    walk(learner, "more", [*FILMS[:4], "film-new"], 5000)
    delta = learner.publish(created_ms=2)
    assert isinstance(held, Bundle)
    assert isinstance(delta, Delta)
    several, (whole,) = encode_delta(delta, max_bytes=4096), encode_delta(delta)
    contents = pack_bundle(held)
    files = {METADATA: pack_metadata(held, contents)} | {name: b"".join(parts) for name, parts in contents.items()}
    bundle = [tuple(files.values())]
    old = {name: array for name, array in held.weights.items() if array.size < 500}
    (head,) = struct.unpack("<I", whole[36:40])
    opened = (whole[40 : 40 + head], whole[40 + head :])
    arrays, tensors = b"".join(pack_arrays(old)), b"".join(map(bytes, pack_weights(old)))
    wrong = (ValueError, KeyError, TypeError, AttributeError, lz4.block.LZ4BlockError)  # unpack_bundle makes them one

    def applied(parts: Parts) -> Any:
        made = _assembled(parts)
        if made is not None:
            held.prepare(made)

    return [
        Decoder("parts of deltas", [(one,) for one in several],
                lambda parts: DeltaAssembler().add(parts[0] or b""), (BundleError,)),
        Decoder("deltas, sealed", [opened], applied, (BundleError,), 0.6),
        Decoder("packed weights", [(arrays,)], lambda parts: read_arrays(HashedStream([parts[0] or b""])), wrong),
        Decoder("safetensors", [(tensors,)], lambda parts: read_weights(HashedStream([parts[0] or b""])), wrong),
        Decoder("bundles", bundle, lambda parts: _unpacked(files, parts), (BundleError,), 0.2),
        Decoder("bundles, sealed", bundle, lambda parts: _unpacked(files, parts, sealed=True), (BundleError,), 0.1),
    ]  # fmt: skip


def _assembled(parts: Parts) -> Delta | None:
    """With a checksum of what is there now."""
    head, piece = (one or b"" for one in parts)
    rest = struct.pack("<I", len(head)) + head + piece
    return DeltaAssembler().add(MAGIC + hashlib.sha256(rest).digest() + rest)


def _unpacked(names: Mapping[str, bytes], parts: Parts, *, sealed: bool = False) -> Bundle:
    """The bundle of these files; with every hash of its metadata made anew, so that a change comes through."""
    there = {name: part for name, part in zip(names, parts, strict=True) if part is not None}
    if sealed:
        there[METADATA] = _hashed(there)

    def chunks(name: str) -> Any:
        if name not in there:
            raise FileNotFoundError(name)
        yield memoryview(there[name])

    return unpack_bundle("here", chunks)


def _hashed(there: dict[str, bytes]) -> bytes:
    try:
        said = orjson.loads(there.get(METADATA, b""))
        said["sha256"] = {name: hashlib.sha256(part).hexdigest() for name, part in there.items() if name != METADATA}
        return orjson.dumps(said)
    except (orjson.JSONDecodeError, TypeError):
        return there.get(METADATA, b"")
