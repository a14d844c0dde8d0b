"""Kafka's framing: the APIs and versions of this broker, how a request is read and an answer written.

It knows nothing of sockets or logs. The codecs are kafka-python's own; produce and fetch have quicker ones in
`record_codecs`.
"""

import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from kafka.protocol import admin, consumer, metadata, producer

PRODUCE, FETCH, API_VERSIONS = 0, 1, 18
MAX_FRAME_BYTES = 100 << 20  # as socket.request.max.bytes

_HEAD = struct.Struct(">hhih")
_SIZE_AND_CORRELATION = struct.Struct(">ii")


class Api(NamedTuple):
    """An API with the lowest and highest version this broker answers."""

    name: str
    lowest: int
    highest: int


APIS = {
    PRODUCE: Api("Produce", 3, 9),
    FETCH: Api("Fetch", 4, 12),
    2: Api("ListOffsets", 1, 7),
    3: Api("Metadata", 0, 9),
    8: Api("OffsetCommit", 2, 8),
    9: Api("OffsetFetch", 1, 7),
    10: Api("FindCoordinator", 0, 3),
    11: Api("JoinGroup", 0, 9),
    12: Api("Heartbeat", 0, 4),
    13: Api("LeaveGroup", 0, 5),
    14: Api("SyncGroup", 0, 5),
    15: Api("DescribeGroups", 0, 5),
    16: Api("ListGroups", 0, 4),
    API_VERSIONS: Api("ApiVersions", 0, 3),
    19: Api("CreateTopics", 2, 6),
    20: Api("DeleteTopics", 1, 5),
    21: Api("DeleteRecords", 0, 2),
    22: Api("InitProducerId", 0, 4),
    32: Api("DescribeConfigs", 1, 4),
    33: Api("AlterConfigs", 0, 2),
    35: Api("DescribeLogDirs", 1, 4),
    37: Api("CreatePartitions", 0, 3),
    42: Api("DeleteGroups", 0, 2),
    44: Api("IncrementalAlterConfigs", 0, 1),
    60: Api("DescribeCluster", 0, 1),
}


def _find(name: str) -> Any:
    for module in (metadata, producer, consumer, admin):
        if hasattr(module, name):
            return getattr(module, name)
    raise LookupError(f"kafka.protocol has no {name}: kafka-python >= 3.0.12 is needed")


_REQUESTS: dict[int, Any] = {key: _find(f"{api.name}Request") for key, api in APIS.items()}
_RESPONSES: dict[int, Any] = {key: _find(f"{api.name}Response") for key, api in APIS.items()}


@dataclass(slots=True)
class Call:
    """One request. `body` is decoded, except for produce and fetch, whose handlers read `frame` from `at` on."""

    key: int
    version: int
    correlation: int
    client_id: str
    host: str
    frame: bytes
    at: int
    body: Any = None


class Unreadable(Exception):
    """A frame that is no request of ours: the connection cannot go on."""


def read(frame: bytes, host: str) -> Call:
    """The request in a frame; Unreadable if there is none."""
    try:
        key, version, correlation, length = _HEAD.unpack_from(frame)
        at = _HEAD.size + max(length, 0)
        client_id = frame[_HEAD.size : at].decode()
        api = APIS.get(key)
        if api is None:
            raise Unreadable(f"API {key} is not advertised")
        if not api.lowest <= version <= api.highest:
            if key == API_VERSIONS:  # the answer names the versions that would do
                return Call(key, version, correlation, client_id, host, frame, at)
            raise Unreadable(f"{api.name} version {version} is not advertised ({api.lowest} to {api.highest} are)")
        request = _REQUESTS[key]
        if request.flexible_version_q(version):
            at = skip_tags(frame, at)
        call = Call(key, version, correlation, client_id, host, frame, at)
        if key not in (PRODUCE, FETCH):
            call.body = request.decode(memoryview(frame)[at:], version=version)
    except Unreadable:
        raise
    except Exception as problem:  # the codecs raise whatever broken bytes lead to
        raise Unreadable(f"{type(problem).__name__}: {problem}") from problem
    return call


def answer(key: int) -> Any:
    """The response class of an API; its nested structures are its attributes."""
    return _RESPONSES[key]


def write(call: Call, response: Any) -> bytes:
    """The frame that carries a response."""
    response.API_VERSION = call.version
    response.with_header(correlation_id=call.correlation)
    frame: bytes = response.encode(header=True, framed=True)
    return frame


def framed(call: Call, parts: list[bytes], *, tagged_header: bool) -> list[bytes]:
    """`parts` as one frame, without copying them together."""
    size = 4 + tagged_header + sum(map(len, parts))
    head = _SIZE_AND_CORRELATION.pack(size, call.correlation)
    return [head + b"\x00" if tagged_header else head, *parts]


def skip_tags(data: bytes, at: int) -> int:
    """Position behind a tagged-fields section."""
    count, at = unsigned_varint(data, at)
    for _ in range(count):
        _, at = unsigned_varint(data, at)
        size, at = unsigned_varint(data, at)
        at += size
        if at > len(data):
            raise ValueError("tagged field runs past the frame")
    return at


def unsigned_varint(data: bytes, at: int) -> tuple[int, int]:
    """Value and position behind it."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 28:
            raise ValueError("number longer than 32 bits")


def encode_unsigned_varint(value: int) -> bytes:
    """As `unsigned_varint` reads it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
