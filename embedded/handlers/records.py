"""Records: produce, fetch, offsets by time.

Knows nothing of groups. A fetch that finds too little waits until an append wakes it.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

from embedded.handlers.node import Node, now_ms
from embedded.log import PartitionLog, batch
from embedded.protocol import FETCH, PRODUCE, Call, Code, Unreadable, answer, framed, record_codecs

LIST_OFFSETS = 2
LATEST, EARLIEST, MAX_TIMESTAMP = -1, -2, -3
FETCH_MAX_BYTES = 55 << 20  # as fetch.max.bytes
ZSTD_SINCE_PRODUCE = 7


class CloseConnection(Exception):
    """The connection must be closed: the way to refuse a request that wants no answer."""


def produce(node: Node, call: Call) -> list[bytes] | None:
    """Appends each partition's batch; acknowledged only once it is written."""
    try:
        request = record_codecs.read_produce(call.frame, call.at, call.version)
    except (ValueError, IndexError, struct.error) as problem:
        raise Unreadable(f"produce: {problem}") from problem
    now = now_ms()
    results = [
        (name, [_append(node, call, request, name, index, records, now) for index, records in partitions])
        for name, partitions in request.topics
    ]
    if request.acks == 0:
        if any(done.code for _, partitions in results for done in partitions):
            raise CloseConnection("a produce request without acknowledgement failed")
        return None
    return framed(call, [record_codecs.write_produce(call.version, results)], tagged_header=call.version >= 9)


def _append(
    node: Node,
    call: Call,
    request: record_codecs.ProduceRequest,
    name: str,
    index: int,
    records: memoryview | None,
    now: int,
) -> record_codecs.Produced:
    log = node.topics.log(name, index)
    if request.acks not in (-1, 0, 1):
        return _refused(index, Code.INVALID_REQUIRED_ACKS, log)
    if request.transactional_id is not None:
        return _refused(
            index, Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, log, "the embedded broker has no transactions"
        )
    if log is None:
        return _refused(index, Code.UNKNOWN_TOPIC_OR_PARTITION, None)
    if request.acks == -1 and log.config.min_insync_replicas > 1:
        return _refused(index, Code.NOT_ENOUGH_REPLICAS, log)
    if records is None or len(records) < batch.HEADER_BYTES:
        return _refused(index, Code.CORRUPT_MESSAGE, log)
    if call.version < ZSTD_SINCE_PRODUCE and records[22] & batch.CODEC_MASK == batch.ZSTD:
        return _refused(index, Code.UNSUPPORTED_COMPRESSION_TYPE, log)
    done = log.append(records, now)
    return record_codecs.Produced(index, done.code, done.base_offset, done.time_ms, log.start_offset)


def _refused(index: int, code: Code, log: PartitionLog | None, message: str | None = None) -> record_codecs.Produced:
    return record_codecs.Produced(index, code, -1, -1, log.start_offset if log is not None else -1, message)


def fetch(node: Node, call: Call) -> Any:
    """Answers at once if there is enough (or an error), else a coroutine that waits for it."""
    try:
        request = record_codecs.read_fetch(call.frame, call.at, call.version)
    except (ValueError, IndexError, struct.error) as problem:
        raise Unreadable(f"fetch: {problem}") from problem
    topics, size, failed = _read(node, request)
    if failed or size >= request.min_bytes or request.max_wait_ms <= 0:
        return _fetched(call, topics)
    return _wait_and_fetch(node, call, request)


async def _wait_and_fetch(node: Node, call: Call, request: record_codecs.FetchRequest) -> list[bytes]:
    loop = asyncio.get_running_loop()
    enough = loop.create_future()
    missing = request.min_bytes

    def wake(appended: int = 0) -> None:
        nonlocal missing
        missing -= appended
        if missing <= 0 and not enough.done():
            enough.set_result(None)

    def give_up() -> None:
        nonlocal missing
        missing = 0
        wake()

    logs = [
        log
        for name, partitions in request.topics
        for wanted in partitions
        if (log := node.topics.log(name, wanted.partition)) is not None
    ]
    timer = loop.call_later(request.max_wait_ms / 1000, give_up)
    watcher: Callable[[int], None] = wake
    for log in logs:
        log.watchers.add(watcher)
    try:
        # this runs one turn of the loop after `fetch` looked: what was appended in between has woken nobody
        _, size, failed = _read(node, request)
        missing = request.min_bytes - size
        if not failed and missing > 0:
            await enough
    finally:
        timer.cancel()
        for log in logs:
            log.watchers.discard(watcher)
    return _fetched(call, _read(node, request)[0])


def _read(
    node: Node, request: record_codecs.FetchRequest
) -> tuple[list[tuple[str, list[record_codecs.Fetched]]], int, bool]:
    total, failed = 0, False
    budget = min(request.max_bytes, FETCH_MAX_BYTES)
    topics = []
    for name, partitions in request.topics:
        results = []
        for index, offset, max_bytes in partitions:
            log = node.topics.log(name, index)
            if log is None:
                results.append(record_codecs.Fetched(index, Code.UNKNOWN_TOPIC_OR_PARTITION, -1, -1, b""))
                failed = True
                continue
            if not log.start_offset <= offset <= log.end_offset:
                results.append(record_codecs.Fetched(index, Code.OFFSET_OUT_OF_RANGE, -1, log.start_offset, b""))
                failed = True
                continue
            records = b""
            if offset < log.end_offset and (total < budget or not total):
                records = log.read(offset, min(max_bytes, budget - total), at_least_one=not total)
                total += len(records)
            results.append(record_codecs.Fetched(index, Code.NONE, log.end_offset, log.start_offset, records))
        topics.append((name, results))
    return topics, total, failed


def _fetched(call: Call, topics: list[tuple[str, list[record_codecs.Fetched]]]) -> list[bytes]:
    return framed(call, record_codecs.write_fetch(call.version, topics), tagged_header=call.version >= 12)


def list_offsets(node: Node, call: Call) -> Any:
    """First, last, newest, or the first offset since a time."""
    response = answer(call.key)
    topic_type = response.ListOffsetsTopicResponse
    partition_type = topic_type.ListOffsetsPartitionResponse
    topics = []
    for topic in call.body.topics:
        partitions = []
        for wanted in topic.partitions:
            log = node.topics.log(topic.name, wanted.partition_index)
            code, offset, time_ms = Code.NONE, -1, -1
            if log is None:
                code = Code.UNKNOWN_TOPIC_OR_PARTITION
            elif wanted.timestamp == LATEST:
                offset = log.end_offset
            elif wanted.timestamp == EARLIEST:
                offset = log.start_offset
            elif wanted.timestamp == MAX_TIMESTAMP:
                offset, time_ms = log.newest()
            elif wanted.timestamp < 0:
                code = Code.UNSUPPORTED_VERSION
            else:
                offset, time_ms = log.first_since(wanted.timestamp)
            partitions.append(
                partition_type(
                    partition_index=wanted.partition_index,
                    error_code=code,
                    timestamp=time_ms,
                    offset=offset,
                    leader_epoch=0 if offset >= 0 else -1,
                )
            )
        topics.append(topic_type(name=topic.name, partitions=partitions))
    return response(throttle_time_ms=0, topics=topics)


HANDLERS = {PRODUCE: produce, FETCH: fetch, LIST_OFFSETS: list_offsets}
