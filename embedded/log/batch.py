"""Record batches, format 2: the header, the checks a broker makes, and the records inside.

Knows nothing of offsets assigned, files or clients. Batches stay as the producer made them; only compaction takes one
apart and only it builds one.
"""

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Any, NamedTuple

from kafka import codec as codecs

from embedded.protocol import encode_unsigned_varint

try:
    from crc32c import crc32c
except ImportError:  # pure Python, about 1.8 ms per 16 KiB: `pip install kafka-python[crc32c]` is worth it
    from kafka.record.util import calc_crc32c as crc32c  # type: ignore[no-redef]

HEADER = Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size  # 61
PREFIX_BYTES = 12  # base offset and length stand before what `length` counts
CRC_START = 21  # the checksum covers everything from the attributes on
CODEC_MASK, LOG_APPEND_TIME, TRANSACTIONAL, CONTROL, DELETE_HORIZON = 0x07, 0x08, 0x10, 0x20, 0x40
ZSTD = 4

Buffer = bytes | memoryview


class Header(NamedTuple):
    """The fixed 61 bytes in front of a batch."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.length + PREFIX_BYTES

    @property
    def last_offset(self) -> int:
        """Offset of the last record, kept even where compaction has dropped that record."""
        return self.base_offset + self.last_offset_delta


class LogRecord(NamedTuple):
    """What the broker may need of one record; `raw` is what follows its timestamp."""

    offset: int
    timestamp: int
    key: bytes | None
    has_value: bool
    attributes: int
    raw: bytes


def parse(data: Buffer, at: int = 0) -> Header:
    """The header at `at`; struct.error if fewer than 61 bytes are left."""
    return Header._make(HEADER.unpack_from(data, at))


def checksum_ok(header: Header, data: Buffer, at: int = 0) -> bool:
    """True if the CRC-32C in the header is that of the batch's bytes."""
    body = memoryview(data)[at + CRC_START : at + header.size]
    return int(crc32c(body)) == header.crc


def stamped(header: Header, data: Buffer, append_time_ms: int) -> tuple[Header, bytes]:
    """The batch with LogAppendTime: flag and greatest timestamp set, checksum made anew."""
    header = header._replace(attributes=header.attributes | LOG_APPEND_TIME, max_timestamp=append_time_ms)
    return _sealed(header, bytes(data[HEADER_BYTES:]))


def records(header: Header, data: Buffer) -> Iterator[LogRecord]:
    """The records of one whole batch, decompressed if need be; ValueError or IndexError if they do not parse."""
    body = memoryview(data)[HEADER_BYTES : header.size]
    unpack = _DECOMPRESS[header.attributes & CODEC_MASK]
    buffer = unpack(bytes(body))
    at = 0
    for _ in range(header.records):
        length, at = _varint(buffer, at)
        end = at + length
        if length < 5 or end > len(buffer):
            raise ValueError(f"record of {length} bytes at byte {at} of {len(buffer)}")
        attributes = buffer[at]
        timestamp_delta, rest = _varint(buffer, at + 1)
        offset_delta, key_at = _varint(buffer, rest)
        key_length, key_at = _varint(buffer, key_at)
        key = None if key_length < 0 else buffer[key_at : key_at + key_length]
        value_length, _ = _varint(buffer, key_at + max(key_length, 0))
        timestamp = (
            header.max_timestamp if header.attributes & LOG_APPEND_TIME else header.first_timestamp + timestamp_delta
        )
        yield LogRecord(
            header.base_offset + offset_delta, timestamp, key, value_length >= 0, attributes, buffer[rest:end]
        )
        at = end


def lacks_key(header: Header, data: Buffer) -> bool:
    """True if a record has no key; errors as `records`, at a third of its cost."""
    buffer = _DECOMPRESS[header.attributes & CODEC_MASK](bytes(memoryview(data)[HEADER_BYTES : header.size]))
    at = 0
    for _ in range(header.records):
        length, at = _varint(buffer, at)
        if length < 5:
            raise ValueError(f"record of {length} bytes at byte {at}")
        end, at = at + length, at + 1
        for _ in range(2):  # timestamp and offset deltas
            while buffer[at] & 0x80:
                at += 1
            at += 1
        if buffer[at] & 1:  # zigzag: odd is negative, and a negative length is no key
            return True
        at = end
    return False


def rebuilt(header: Header, kept: Iterable[LogRecord], delete_horizon_ms: int | None) -> tuple[Header, bytes]:
    """A batch of fewer records with the same offsets, producer and codec.

    A `delete_horizon_ms` is written where Apache Kafka writes it (KIP-534): in the base timestamp, with a flag; the
    records' timestamps are deltas against it and stay what they were.
    """
    base, attributes = header.first_timestamp, header.attributes
    if delete_horizon_ms is not None:
        base, attributes = delete_horizon_ms, attributes | DELETE_HORIZON
    body = bytearray()
    count = 0
    newest = -1
    for record in kept:
        one = bytes([record.attributes]) + _encode_varint(record.timestamp - base) + record.raw
        body += _encode_varint(len(one)) + one
        newest = max(newest, record.timestamp)
        count += 1
    packed = bytes(_COMPRESS[attributes & CODEC_MASK](bytes(body)))
    header = header._replace(
        attributes=attributes,
        first_timestamp=base,
        max_timestamp=newest,
        records=count,
        length=HEADER_BYTES - PREFIX_BYTES + len(packed),
    )
    return _sealed(header, packed)


def _sealed(header: Header, body: bytes) -> tuple[Header, bytes]:
    unsealed = HEADER.pack(*header) + body
    header = header._replace(crc=int(crc32c(memoryview(unsealed)[CRC_START:])))
    return header, HEADER.pack(*header) + body


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    byte = buffer[at]
    at += 1
    if not byte & 0x80:
        return (byte >> 1) ^ -(byte & 1), at
    value, shift = byte & 0x7F, 7
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise ValueError(f"number longer than 64 bits at byte {at}")


def _encode_varint(value: int) -> bytes:
    return encode_unsigned_varint((value << 1) ^ (value >> 63))


def _same(data: bytes) -> bytes:
    return data


_DECOMPRESS: dict[int, Callable[[bytes], Any]] = {
    0: _same,
    1: codecs.gzip_decode,
    2: codecs.snappy_decode,
    3: codecs.lz4_decode,
    4: codecs.zstd_decode,
}
_COMPRESS: dict[int, Callable[[bytes], Any]] = {
    0: _same,
    1: codecs.gzip_encode,
    2: codecs.snappy_encode,
    3: codecs.lz4_encode,
    4: codecs.zstd_encode,
}
CODECS = frozenset(_DECOMPRESS)
