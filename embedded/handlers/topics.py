"""Topics made, grown, emptied and deleted.

Knows nothing of settings' meaning.
"""

from collections import Counter
from typing import Any

from embedded.handlers.node import NODE_ID, Node
from embedded.log import AdminRefused, topic_settings
from embedded.protocol import Call, Code, answer

CREATE_TOPICS, DELETE_TOPICS, DELETE_RECORDS, CREATE_PARTITIONS = 19, 20, 21, 37
TO_THE_END = -1


def create_topics(node: Node, call: Call) -> Any:
    """Creates topics, or only says whether it would."""
    response = answer(call.key)
    twice = {name for name, times in Counter(topic.name for topic in call.body.topics).items() if times > 1}
    return response(
        throttle_time_ms=0,
        topics=[
            _create(node, call, response.CreatableTopicResult, wanted, wanted.name in twice)
            for wanted in call.body.topics
        ],
    )


def _create(node: Node, call: Call, result: Any, wanted: Any, twice: bool) -> Any:
    overrides = {config.name: config.value for config in wanted.configs}
    count = wanted.num_partitions
    try:
        if twice:
            raise AdminRefused(Code.INVALID_REQUEST, f"topic {wanted.name} stands twice in one request")
        if wanted.assignments:
            count = _assigned_partitions(wanted)
        elif wanted.replication_factor not in (-1, 1):
            raise AdminRefused(
                Code.INVALID_REPLICATION_FACTOR, f"replication factor {wanted.replication_factor}: there is one broker"
            )
        elif count == -1:
            count = node.options.num_partitions
        node.topics.check_new(wanted.name, count, overrides)
        if not call.body.validate_only:
            node.topics.create(wanted.name, count, overrides)
    except AdminRefused as refused:
        return result(
            name=wanted.name,
            error_code=refused.code,
            error_message=refused.message,
            topic_config_error_code=0,
            num_partitions=-1,
            replication_factor=-1,
            configs=[],
        )
    settings = [
        result.CreatableTopicConfigs(
            name=name,
            value=overrides.get(name) or setting.default,
            read_only=False,
            config_source=1 if name in overrides else 5,
            is_sensitive=False,
        )
        for name, setting in topic_settings.SETTINGS.items()
    ]
    return result(
        name=wanted.name,
        error_code=0,
        error_message=None,
        topic_config_error_code=0,
        num_partitions=count,
        replication_factor=1,
        configs=settings,
    )


def _assigned_partitions(wanted: Any) -> int:
    if wanted.num_partitions != -1 or wanted.replication_factor != -1:
        raise AdminRefused(Code.INVALID_REQUEST, "give a replica assignment or numbers, not both")
    if sorted(a.partition_index for a in wanted.assignments) != list(range(len(wanted.assignments))):
        raise AdminRefused(Code.INVALID_REPLICA_ASSIGNMENT, "partitions must be numbered from 0 without gaps")
    if any(list(a.broker_ids) != [NODE_ID] for a in wanted.assignments):
        raise AdminRefused(Code.INVALID_REPLICA_ASSIGNMENT, f"there is one broker, and its id is {NODE_ID}")
    return len(wanted.assignments)


def delete_topics(node: Node, call: Call) -> Any:
    """Deletes topics with data and committed offsets."""
    response = answer(call.key)
    results = []
    for name in call.body.topic_names:
        code = Code.NONE
        if node.topics.get(name) is None:
            code = Code.UNKNOWN_TOPIC_OR_PARTITION
        else:
            node.delete_topic(name)
        results.append(response.DeletableTopicResult(name=name, error_code=code, error_message=None))
    return response(throttle_time_ms=0, responses=results)


def create_partitions(node: Node, call: Call) -> Any:
    """Adds partitions."""
    response = answer(call.key)
    results = []
    for wanted in call.body.topics:
        topic = node.topics.get(wanted.name)
        code, message = Code.NONE, None
        if topic is None:
            code, message = Code.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {wanted.name}"
        elif wanted.count <= len(topic.partitions):
            code = Code.INVALID_PARTITIONS
            message = f"topic {wanted.name} has {len(topic.partitions)} partitions already; {wanted.count} is not more"
        elif wanted.assignments and (
            len(wanted.assignments) != wanted.count - len(topic.partitions)
            or any(list(a.broker_ids) != [NODE_ID] for a in wanted.assignments)
        ):
            code, message = Code.INVALID_REPLICA_ASSIGNMENT, f"there is one broker, and its id is {NODE_ID}"
        elif not call.body.validate_only:
            node.topics.grow(topic, wanted.count)
        results.append(response.CreatePartitionsTopicResult(name=wanted.name, error_code=code, error_message=message))
    return response(throttle_time_ms=0, results=results)


def delete_records(node: Node, call: Call) -> Any:
    """Moves logs' start offsets up."""
    response = answer(call.key)
    topic_type = response.DeleteRecordsTopicResult
    topics = []
    for topic in call.body.topics:
        partitions = []
        for wanted in topic.partitions:
            log = node.topics.log(topic.name, wanted.partition_index)
            code, low = Code.NONE, -1
            if log is None:
                code = Code.UNKNOWN_TOPIC_OR_PARTITION
            elif not log.config.delete:
                code = Code.POLICY_VIOLATION
            elif wanted.offset > log.end_offset or wanted.offset < TO_THE_END:
                code = Code.OFFSET_OUT_OF_RANGE
            else:
                log.delete_before(log.end_offset if wanted.offset == TO_THE_END else wanted.offset)
                low = log.start_offset
            partitions.append(
                topic_type.DeleteRecordsPartitionResult(
                    partition_index=wanted.partition_index, low_watermark=low, error_code=code
                )
            )
        topics.append(topic_type(name=topic.name, partitions=partitions))
    return response(throttle_time_ms=0, topics=topics)


HANDLERS = {
    CREATE_TOPICS: create_topics,
    DELETE_TOPICS: delete_topics,
    DELETE_RECORDS: delete_records,
    CREATE_PARTITIONS: create_partitions,
}
