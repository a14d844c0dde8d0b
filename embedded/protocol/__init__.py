"""Kafka's protocol: frames, calls and their answers, error codes, and quick codecs of produce and fetch.

Knows no log, no group and no socket.
"""

from embedded.protocol.codes import Code
from embedded.protocol.wire import (
    API_VERSIONS,
    APIS,
    FETCH,
    MAX_FRAME_BYTES,
    PRODUCE,
    Call,
    Unreadable,
    answer,
    encode_unsigned_varint,
    framed,
)

__all__ = [
    "APIS",
    "API_VERSIONS",
    "FETCH",
    "MAX_FRAME_BYTES",
    "PRODUCE",
    "Call",
    "Code",
    "Unreadable",
    "answer",
    "encode_unsigned_varint",
    "framed",
]
