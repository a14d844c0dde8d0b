"""The files that a bundle is kept as, and the bundle that they are.

Before: a `Bundle`, or a place that has files. After: `stores` keep them, in a folder or as objects. Knows neither.

A bundle is graph.onnx, weights.packed and items.json, with metadata.json, written last, that has a SHA-256 of each
of the others. Its name, `v00000012-<digest>`, is its content's. No pickle. Where single writes have to be small, a file
is kept in pieces (weights.packed.0000, ...), of which metadata.json has the number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

import orjson
from pydantic import ConfigDict, Field, TypeAdapter

from headwater.errors import BundleError, Unavailable
from headwater.events import MAX_ID_LENGTH
from models.config import ModelConfig
from models.part import OWN_ROW
from models.published.bounds import MAX_PARTS, Digest, SaidOfModel, Version, checked_body, only_bundle_errors
from models.published.bundle import REMEDY, Bundle, most_rows
from models.published.digest import FIRST_SCHEME, SCHEME, ModelDigest
from models.published.packed_weights import pack_arrays, read_arrays
from models.published.signing.trust import NO_TRUST, SIGNATURE, Trust
from models.published.weights_file import MOST_HEAD, HashedStream, read_weights

__all__ = [
    "METADATA",
    "BundleName",
    "Chunks",
    "PackedFile",
    "bundle_name",
    "named_bundle",
    "only_name",
    "pack_bundle",
    "pack_metadata",
    "parse_name",
    "piece_names",
    "unpack_bundle",
]

FORMAT = 3
"""What is written. Read are two more: of the second, weights are weights.safetensors, as they lie in memory; of the
first, memories are dense tables besides, and the digest is of the first scheme."""

READABLE = (1, 2, FORMAT)
UNPACKED, PACKED = "weights.safetensors", "weights.packed"
METADATA = "metadata.json"
ITEMS = TypeAdapter(list[str | None], config=ConfigDict(strict=True))

Chunks = Iterator[bytes | memoryview]
Value = TypeVar("Value")

MOST_GRAPH = 1 << 26
"""Bytes of graph.onnx: weights are none of it."""

MOST_OWNER = 6 * MAX_ID_LENGTH + 3
"""Bytes of one owner of a row in items.json: an id of characters that JSON escapes."""

_NAME = re.compile(r"v([0-9]{1,15})-([0-9a-f]+)")


class BundleName(NamedTuple):
    """What the name of a bundle says; `digest` is the beginning of it."""

    version: int
    digest: str


class _Metadata(SaidOfModel):
    """metadata.json."""

    format: int
    version: Version
    digest: Digest
    config: dict[str, Any]
    digest_scheme: int = FIRST_SCHEME
    tables: dict[str, float | None] | None = None
    pools: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    reasons: dict[str, str] = Field(default_factory=dict)
    sha256: dict[str, str]
    pieces: dict[str, Annotated[int, Field(ge=1, le=MAX_PARTS)]] = Field(default_factory=dict)
    signature: dict[str, Any] | None = None


def bundle_name(bundle: Bundle) -> str:
    """What a bundle is kept under and announced as."""
    return f"v{bundle.version:08d}-{bundle.digest[:16]}"


def parse_name(name: str) -> BundleName | None:
    """What a name says; None where it is no bundle's.

    >>> parse_name("v00000012-09af"), parse_name(".writing-v00000012-09af")
    (BundleName(version=12, digest='09af'), None)
    """
    match = _NAME.fullmatch(name)
    return None if match is None else BundleName(int(match[1]), match[2])


def only_name(name: str) -> str:
    """The name, if it is a bundle's: whoever announces one may not lead anybody to another place.

    Raises
        BundleError: it is none.
    """
    if parse_name(name) is None:
        raise BundleError(f"{name[:80]!r} is no name of a bundle, such as v00000012-09af: it is looked for nowhere")
    return name


def piece_names(name: str, pieces: int) -> list[str]:
    """What the pieces of a file are called; one alone has the file's own name.

    >>> piece_names("items.json", 1), piece_names("items.json", 2)
    (['items.json'], ['items.json.0000', 'items.json.0001'])
    """
    return [name] if pieces == 1 else [f"{name}.{number:04d}" for number in range(pieces)]


class PackedFile:
    """A file's bytes in parts, made as they are read and so anew each time; one pass tells size and SHA-256.

    Parameters
        parts: makes them, the same ones each time.
    """

    def __init__(self, parts: Callable[[], Iterable[bytes]]) -> None:
        self._parts = parts
        self._known: tuple[int, str] | None = None

    def __iter__(self) -> Iterator[bytes]:
        size, digest = 0, hashlib.sha256()
        for part in self._parts():
            size += len(part)
            digest.update(part)
            yield part
        self._known = size, digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._told()[0]

    @property
    def sha256(self) -> str:
        """Of the whole file, hexadecimal."""
        return self._told()[1]

    def _told(self) -> tuple[int, str]:
        while self._known is None:
            for _ in self:
                pass
        return self._known


def pack_bundle(bundle: Bundle) -> dict[str, PackedFile]:
    """The files of a bundle but metadata.json."""
    return {
        "graph.onnx": PackedFile(lambda: [bundle.graph]),
        "items.json": PackedFile(lambda: [orjson.dumps(bundle.items)]),
        PACKED: PackedFile(lambda: pack_arrays(bundle.weights)),
    }


def pack_metadata(
    bundle: Bundle,
    contents: Mapping[str, PackedFile],
    pieces: Mapping[str, int] | None = None,
    trust: Trust = NO_TRUST,
) -> bytes:
    """metadata.json.

    Parameters
        contents: what `pack_bundle` made.
        pieces: how many each of the files is kept in that is kept in more than one.
        trust: signs it; where that has no key, the signature stays that the bundle came with.
    """
    metadata: dict[str, Any] = {
        "format": FORMAT,
        "version": bundle.version,
        "parent": bundle.parent,
        "digest": bundle.digest,
        "digest_scheme": bundle.hashes.scheme,
        "created_ms": bundle.created_ms,
        "types": bundle.types,
        "config": bundle.config.model_dump(mode="json"),
        "metrics": bundle.metrics,
        "extra": bundle.extra,
        "tables": bundle.tables,
        "pools": bundle.pools,
        "reasons": bundle.reasons,
        "sha256": {name: file.sha256 for name, file in contents.items()},
        **({"pieces": pieces} if pieces else {}),
    }
    if signature := trust.signature(metadata) or bundle.signature:
        metadata[SIGNATURE] = signature
    metadata["sha256"][METADATA] = _own_hash(metadata)
    return orjson.dumps(metadata, option=orjson.OPT_INDENT_2)


def _own_hash(metadata: dict[str, Any]) -> str:
    """SHA-256 of what metadata.json says beside this hash."""
    others = {name: of for name, of in metadata["sha256"].items() if name != METADATA}
    return HashedStream([orjson.dumps({**metadata, "sha256": others}, option=orjson.OPT_SORT_KEYS)]).digest()


def unpack_bundle(at: str, chunks: Callable[[str], Chunks], trust: Trust = NO_TRUST) -> Bundle:
    """The bundle that files are, every checksum verified, its weights writable and held once.

    Parameters
        at: where they lie, for messages.
        chunks: the bytes of a file by its name; raises FileNotFoundError, or another OSError, where there are none.
        trust: whose bundles are taken. Of another's, nothing but the metadata is read.

    Raises
        BundleError: a file is missing, incomplete, corrupt or of another format, or the bundle is none that is taken
            (`UntrustedBundleError`); it says what to do.
        Unavailable: `chunks` raised it. Nothing else is raised.
    """
    from models.onnx_nodes import refuse_files

    with only_bundle_errors(f"bundle {at}", REMEDY):
        said = _metadata(at, chunks, trust)

        def read(name: str, parse: Callable[[HashedStream], Value]) -> Value:
            return _verified(
                at, name, said, HashedStream(_joined(chunks, piece_names(name, said.pieces.get(name, 1)))), parse
            )

        config = ModelConfig(**said.config)
        graph = read("graph.onnx", lambda stream: stream.rest(MOST_GRAPH))
        refuse_files(graph)
        owners = most_rows(config) * MOST_OWNER
        items = ITEMS.validate_python(read("items.json", lambda stream: orjson.loads(stream.rest(owners))))
        weights = read(PACKED, read_arrays) if said.format == FORMAT else read(UNPACKED, read_weights)
        about = _about(said, config)
        hashes = ModelDigest.of(weights, items, about["tables"], about["pools"], said.digest_scheme)
        digest = hashes.value(items, said.types, config)
        if digest != said.digest:
            raise BundleError(f"bundle {at}: content has digest {digest[:16]}, not {said.digest[:16]}: {REMEDY}")
        bundle = Bundle(
            config=config,
            weights=weights,
            items=items,
            digest=digest,
            graph=graph,
            hashes=hashes,
            **said.model_dump(include={"version", "parent", "types", "metrics", "extra", "created_ms", "signature"}),
            **about,
        )
        bundle.refuse_unfit()
        return bundle


def _joined(chunks: Callable[[str], Chunks], names: Iterable[str]) -> Chunks:
    for name in names:
        yield from chunks(name)


def _verified(
    at: str, name: str, said: _Metadata, stream: HashedStream, parse: Callable[[HashedStream], Value]
) -> Value:
    """What a file holds. Its checksum tells first: of damaged bytes the reason why they cannot be read says nothing."""
    wrong: Exception | None = None
    try:
        value = parse(stream)
    except Unavailable:
        raise
    except BundleError as error:
        raise BundleError(f"bundle {at}: {name}: {error}") from error
    except OSError as error:
        raise BundleError(f"bundle {at} lacks {name} ({error}): {REMEDY}") from error
    except Exception as error:  # noqa: BLE001 - whatever the bytes made of it
        wrong = error
    if stream.digest() != said.sha256.get(name):
        raise BundleError(f"bundle {at}: {name} is corrupt (checksum differs): {REMEDY}") from wrong
    if wrong is not None:
        raise wrong
    return value


def _about(said: _Metadata, config: ModelConfig) -> dict[str, Any]:
    """Tables, pools and reasons; the first release wrote none, so that the code that learns has to say."""
    if said.tables is not None:
        return {"tables": dict(said.tables), "pools": dict(said.pools), "reasons": dict(said.reasons)}
    from models.experts.registry import Parts

    parts = Parts(config)
    tables = parts.tables()
    for memory in parts.memories:  # tables of one length for every row, and no runs
        for name in ("start", "size"):
            del tables[f"{memory.name}_{name}"]
        tables |= {f"{memory.name}_ids": OWN_ROW, f"{memory.name}_weights": 0.0}
    return {"tables": tables, "pools": {}, "reasons": parts.reasons()}


def named_bundle(name: str, bundle: Bundle, at: str) -> Bundle:
    """The bundle, if it is what its name says: the name is the content's, and no place where something may be put.

    Raises
        BundleError: it is another.
    """
    if bundle_name(bundle) != name:
        raise BundleError(f"bundle {at} holds {bundle_name(bundle)}, and so not what its name says: {REMEDY}")
    return bundle


def _metadata(at: str, chunks: Callable[[str], Chunks], trust: Trust) -> _Metadata:
    try:
        metadata = orjson.loads(HashedStream(chunks(METADATA)).rest(MOST_HEAD))
    except OSError as error:
        raise BundleError(f"{at} is no bundle ({error}): check `bundles` in the settings, or {REMEDY}") from error
    except orjson.JSONDecodeError as error:
        raise BundleError(f"bundle {at}: metadata.json is corrupt ({error}): {REMEDY}") from error
    if not isinstance(metadata, dict) or metadata.get("format") not in READABLE:
        found = metadata.get("format") if isinstance(metadata, dict) else None
        raise BundleError(
            f"bundle {at} has format {found!r:.80}, this release reads {', '.join(map(str, READABLE))}: "
            f"upgrade Headwater, or {REMEDY}"
        )
    said = checked_body(_Metadata, metadata, f"bundle {at}: metadata.json", REMEDY)
    if said.sha256.get(METADATA, _own_hash(metadata)) != _own_hash(metadata):  # the first release wrote none
        raise BundleError(f"bundle {at}: metadata.json is corrupt (checksum differs): {REMEDY}")
    trust.refuse_unsigned(metadata, at)
    if not FIRST_SCHEME <= said.digest_scheme <= SCHEME:
        raise BundleError(
            f"bundle {at} has a digest of scheme {said.digest_scheme}, this release knows up to {SCHEME}: upgrade "
            f"Headwater, or {REMEDY}"
        )
    return said
