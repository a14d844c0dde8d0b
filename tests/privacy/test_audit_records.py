"""What anybody may have written to the topic `audit`, and what those who read it make of it."""

from __future__ import annotations

import orjson

from headwater.privacy.audit_log import check_audit, read_audit_record


def test_a_record_that_is_too_deep_for_its_digest_is_none_and_keeps_nobody_from_the_others() -> None:
    genuine = {"action": "forget", "by": "ann", "audited_time": 1, "target": {"a": [{"b": 1}]}, "after": []}
    read = read_audit_record(orjson.dumps(genuine))
    assert read is not None
    read = read.model_copy(update={"digest": read.own_digest()})
    deep = b'{"action":"forget","by":"x","audited_time":2,"after":[],"target":%b}' % (
        b'{"a":' * 300 + b"1" + b"}" * 300
    )
    found = check_audit([(0, read), (1, read_audit_record(deep))])
    assert found.problems == ("audit[0]@1: is no record of an audit",)
    assert found.heads == (read.digest,)
