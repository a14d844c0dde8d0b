"""The wire format: values, headers and dead letters as bytes on a topic, and back.

Bad input never surprises a caller: it is an InvalidMessage that names its reason (`read_events` returns it, the others
raise it).
"""

from headwater.wire.events import (
    MAX_PACKED_EVENTS,
    MAX_PROPERTIES_BYTES,
    OWN_TYPES,
    EventRow,
    TimeBounds,
    encode_packed,
    is_misplaced_list,
    read_events,
    read_past_events,
)
from headwater.wire.headers import Headers, cloudevent_headers, is_kept_header
from headwater.wire.identities import IdentityRow, read_identity
from headwater.wire.letters import (
    UNKNOWN_REASON,
    DeadLetter,
    LetterSource,
    RefusedRecord,
    cut_letter,
    dead_letter,
    dead_letter_headers,
    read_letter,
)
from headwater.wire.requests import (
    decode_catalogue_record,
    decode_item,
    decode_recommendation,
    decode_request,
    decode_user_record,
)
from headwater.wire.surfaces import decode_surface_record
from headwater.wire.values import (
    MAX_DEPTH,
    MAX_VALUE_BYTES,
    check_depth,
    encode,
    not_json,
    only_refusals,
    refuse_deep,
    short_text,
    unforeseen,
    validated,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_PACKED_EVENTS",
    "MAX_PROPERTIES_BYTES",
    "MAX_VALUE_BYTES",
    "OWN_TYPES",
    "UNKNOWN_REASON",
    "DeadLetter",
    "EventRow",
    "Headers",
    "IdentityRow",
    "LetterSource",
    "RefusedRecord",
    "TimeBounds",
    "check_depth",
    "cloudevent_headers",
    "cut_letter",
    "dead_letter",
    "dead_letter_headers",
    "decode_catalogue_record",
    "decode_item",
    "decode_recommendation",
    "decode_request",
    "decode_surface_record",
    "decode_user_record",
    "encode",
    "encode_packed",
    "is_kept_header",
    "is_misplaced_list",
    "not_json",
    "only_refusals",
    "read_events",
    "read_identity",
    "read_letter",
    "read_past_events",
    "refuse_deep",
    "short_text",
    "unforeseen",
    "validated",
]
