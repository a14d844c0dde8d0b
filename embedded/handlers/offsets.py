"""Positions of groups: commit and fetch.

It asks the group whether the member may commit and knows nothing else of it.
"""

from typing import Any

from embedded.groups import COMPLETING, EMPTY, Committed
from embedded.handlers.node import Node, now_ms
from embedded.protocol import Call, Code, answer

COMMIT, FETCH = 8, 9
MAX_METADATA_CHARS = 4096  # as offset.metadata.max.bytes


def offset_commit(node: Node, call: Call) -> Any:
    """Stores positions; written before it is acknowledged."""
    response = answer(call.key)
    topic_type = response.OffsetCommitResponseTopic
    refusal = _refusal(node, call)
    now = now_ms()
    accepted: dict[tuple[str, int], Committed] = {}
    topics = []
    for topic in call.body.topics:
        partitions = []
        for wanted in topic.partitions:
            code = refusal
            if code is Code.NONE and node.topics.log(topic.name, wanted.partition_index) is None:
                code = Code.UNKNOWN_TOPIC_OR_PARTITION
            elif code is Code.NONE and len(wanted.committed_metadata or "") > MAX_METADATA_CHARS:
                code = Code.OFFSET_METADATA_TOO_LARGE
            elif code is Code.NONE:
                accepted[topic.name, wanted.partition_index] = Committed(
                    wanted.committed_offset,
                    wanted.committed_leader_epoch if call.version >= 6 else -1,
                    wanted.committed_metadata or "",
                    now,
                )
            partitions.append(
                topic_type.OffsetCommitResponsePartition(partition_index=wanted.partition_index, error_code=code)
            )
        topics.append(topic_type(name=topic.name, partitions=partitions))
    if accepted:
        node.offsets.commit(call.body.group_id, accepted)
    return response(throttle_time_ms=0, topics=topics)


def _refusal(node: Node, call: Call) -> Code:
    request = call.body
    generation, member_id = request.generation_id_or_member_epoch, request.member_id
    instance = request.group_instance_id if call.version >= 7 else None
    group = node.groups.get(request.group_id)
    if not request.group_id:
        return Code.INVALID_GROUP_ID
    if generation < 0 and (group is None or group.state == EMPTY):
        return Code.NONE  # a client that assigns its partitions itself, or an admin
    if group is None:
        return Code.ILLEGAL_GENERATION
    code = group.check(member_id, instance, generation)
    if code is Code.NONE:
        group.beat(group.members[member_id])
        if group.state == COMPLETING:
            return Code.REBALANCE_IN_PROGRESS
    return code


def offset_fetch(node: Node, call: Call) -> Any:
    """Positions of the partitions asked for, or of all; -1 where nothing was committed."""
    response = answer(call.key)
    topic_type = response.OffsetFetchResponseTopic
    positions = node.offsets.commits.get(call.body.group_id, {})
    asked: dict[str, list[int]] = {}
    if call.body.topics is not None:
        asked = {topic.name: list(topic.partition_indexes) for topic in call.body.topics}
    else:
        for topic, partition in positions:
            asked.setdefault(topic, []).append(partition)
    nothing = Committed(-1, -1, "", 0)
    topics = []
    for name, indexes in asked.items():
        found = [(index, positions.get((name, index), nothing)) for index in indexes]
        topics.append(
            topic_type(
                name=name,
                partitions=[
                    topic_type.OffsetFetchResponsePartition(
                        partition_index=index,
                        committed_offset=committed.offset,
                        committed_leader_epoch=committed.leader_epoch,
                        metadata=committed.metadata,
                        error_code=0,
                    )
                    for index, committed in found
                ],
            )
        )
    return response(throttle_time_ms=0, topics=topics, error_code=0)


HANDLERS = {COMMIT: offset_commit, FETCH: offset_fetch}
