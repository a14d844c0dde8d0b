"""The codecs of produce (v3 to 9) and fetch (v4 to 12), by hand, because every record passes here.

It knows the layout and nothing else; a test holds it equal to kafka-python's codecs. Record bytes are never copied
here: requests give views into the frame, answers are lists of parts.
"""

import struct
from typing import NamedTuple

from embedded.protocol.wire import encode_unsigned_varint, skip_tags, unsigned_varint

_SHORT, _INT = struct.Struct(">h"), struct.Struct(">i")
_ACKS_TIMEOUT = struct.Struct(">hi")
_PRODUCED = struct.Struct(">ihqq")
_LONG = struct.Struct(">q")
_LIMITS = struct.Struct(">iiiib")
_SESSION = struct.Struct(">ii")
_FETCHED = struct.Struct(">ihqq")
_NO_TAGS, _NULL_COMPACT = b"\x00", b"\x00"


class ProduceRequest(NamedTuple):
    """`topics`: (name, [(partition, batch or None)])."""

    transactional_id: str | None
    acks: int
    topics: list[tuple[str, list[tuple[int, memoryview | None]]]]


class Produced(NamedTuple):
    """What became of one partition's batch."""

    partition: int
    code: int
    base_offset: int
    time_ms: int
    start_offset: int
    message: str | None = None


class Wanted(NamedTuple):
    """One partition of a fetch request."""

    partition: int
    offset: int
    max_bytes: int


class FetchRequest(NamedTuple):
    """`topics`: (name, [Wanted])."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    topics: list[tuple[str, list[Wanted]]]


class Fetched(NamedTuple):
    """One partition of a fetch response; offsets are -1 with most errors."""

    partition: int
    code: int
    end_offset: int
    start_offset: int
    records: bytes


class _Reader:
    """A cursor over a frame that reads both generations of the encoding."""

    def __init__(self, frame: bytes, at: int, flexible: bool) -> None:
        self.frame, self.at, self.flexible = frame, at, flexible

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        values = layout.unpack_from(self.frame, self.at)
        self.at += layout.size
        return values

    def count(self) -> int:
        if self.flexible:
            value, self.at = unsigned_varint(self.frame, self.at)
            return value - 1
        return self.take(_INT)[0]

    def text(self) -> str | None:
        length = self.count() if self.flexible else self.take(_SHORT)[0]
        if length < 0:
            return None
        return bytes(self._slice(length)).decode()

    def data(self) -> memoryview | None:
        length = self.count()
        return None if length < 0 else self._slice(length)

    def end(self) -> None:
        if self.flexible:
            self.at = skip_tags(self.frame, self.at)

    def _slice(self, length: int) -> memoryview:
        start, self.at = self.at, self.at + length
        if self.at > len(self.frame):
            raise ValueError(f"{length} bytes at {start} run past the frame of {len(self.frame)}")
        return memoryview(self.frame)[start : self.at]


def read_produce(frame: bytes, at: int, version: int) -> ProduceRequest:
    """The request; ValueError, IndexError or struct.error if it does not parse."""
    reader = _Reader(frame, at, version >= 9)
    transactional_id = reader.text()
    acks, _ = reader.take(_ACKS_TIMEOUT)
    topics = []
    for _ in range(reader.count()):
        name = reader.text() or ""
        partitions = []
        for _ in range(reader.count()):
            (partition,) = reader.take(_INT)
            partitions.append((partition, reader.data()))
            reader.end()
        reader.end()
        topics.append((name, partitions))
    return ProduceRequest(transactional_id, acks, topics)


def write_produce(version: int, topics: list[tuple[str, list[Produced]]]) -> bytes:
    """The body of a produce response."""
    flexible = version >= 9
    out = bytearray(_count(len(topics), flexible))
    for name, partitions in topics:
        out += _text(name, flexible) + _count(len(partitions), flexible)
        for done in partitions:
            out += _PRODUCED.pack(done.partition, done.code, done.base_offset, done.time_ms)
            if version >= 5:
                out += _LONG.pack(done.start_offset)
            if version >= 8:
                out += _count(0, flexible) + _text(done.message, flexible)
            if flexible:
                out += _NO_TAGS
        if flexible:
            out += _NO_TAGS
    out += _INT.pack(0)
    return bytes(out + _NO_TAGS if flexible else out)


def read_fetch(frame: bytes, at: int, version: int) -> FetchRequest:
    """The request; ValueError, IndexError or struct.error if it does not parse."""
    reader = _Reader(frame, at, version >= 12)
    _, max_wait_ms, min_bytes, max_bytes, _ = reader.take(_LIMITS)
    if version >= 7:
        reader.take(_SESSION)
    layout = struct.Struct(
        ">i"
        + ("i" if version >= 9 else "")
        + "q"
        + ("i" if version >= 12 else "")
        + ("q" if version >= 5 else "")
        + "i"
    )
    offset_at = 2 if version >= 9 else 1
    topics = []
    for _ in range(reader.count()):
        name = reader.text() or ""
        partitions = []
        for _ in range(reader.count()):
            values = reader.take(layout)
            partitions.append(Wanted(values[0], values[offset_at], values[-1]))
            reader.end()
        reader.end()
        topics.append((name, partitions))
    return FetchRequest(
        max_wait_ms, min_bytes, max_bytes, topics
    )  # forgotten topics and rack follow; neither matters here


def write_fetch(version: int, topics: list[tuple[str, list[Fetched]]]) -> list[bytes]:
    """The body of a fetch response, in parts."""
    flexible = version >= 12
    parts: list[bytes] = []
    out = bytearray(4)  # no throttling
    if version >= 7:
        out += bytes(6)  # no error; session 0: every request is a full one
    out += _count(len(topics), flexible)
    for name, partitions in topics:
        out += _text(name, flexible) + _count(len(partitions), flexible)
        for got in partitions:
            out += _FETCHED.pack(got.partition, got.code, got.end_offset, got.end_offset)
            if version >= 5:
                out += _LONG.pack(got.start_offset)
            out += _count(0, flexible)  # aborted transactions
            if version >= 11:
                out += _INT.pack(-1)
            out += _count(len(got.records), flexible)
            if got.records:
                parts += (bytes(out), got.records)
                out = bytearray()
            if flexible:
                out += _NO_TAGS
        if flexible:
            out += _NO_TAGS
    if flexible:
        out += _NO_TAGS
    parts.append(bytes(out))
    return parts


def _count(value: int, flexible: bool) -> bytes:
    return encode_unsigned_varint(value + 1) if flexible else _INT.pack(value)


def _text(value: str | None, flexible: bool) -> bytes:
    if value is None:
        return _NULL_COMPACT if flexible else _SHORT.pack(-1)
    data = value.encode()
    return (encode_unsigned_varint(len(data) + 1) if flexible else _SHORT.pack(len(data))) + data
