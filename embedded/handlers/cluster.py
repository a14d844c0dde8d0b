"""What a client asks before it works: versions, brokers, topics, coordinators, producer ids, disk use.

Knows nothing of records. There is one broker and it leads everything.
"""

import shutil
from typing import Any

from embedded.handlers.node import NODE_ID, Node
from embedded.log import AdminRefused
from embedded.protocol import API_VERSIONS, APIS, Call, Code, answer

METADATA, FIND_COORDINATOR, INIT_PRODUCER_ID, DESCRIBE_LOG_DIRS, DESCRIBE_CLUSTER = 3, 10, 22, 35, 60
NO_TRANSACTIONS = "the embedded broker has no transactions: use Apache Kafka, or a producer without transactional.id"


def api_versions(_: Node, call: Call) -> Any:
    """The APIs and versions there are; a client from the future learns, in version 0, how to ask again."""
    response = answer(call.key)
    code = Code.NONE
    if not APIS[API_VERSIONS].lowest <= call.version <= APIS[API_VERSIONS].highest:
        call.version, code = 0, Code.UNSUPPORTED_VERSION
    keys = [
        response.ApiVersion(api_key=key, min_version=api.lowest, max_version=api.highest)
        for key, api in APIS.items()
        if code is Code.NONE or key == API_VERSIONS
    ]
    return response(
        error_code=code,
        api_keys=keys,
        throttle_time_ms=0,
        supported_features=[],
        finalized_features_epoch=-1,
        finalized_features=[],
        zk_migration_ready=False,
    )


def metadata(node: Node, call: Call) -> Any:
    """Brokers, and the topics asked for, created if client and broker allow it."""
    response = answer(call.key)
    broker = response.MetadataResponseBroker(node_id=NODE_ID, host=node.host, port=node.port, rack=None)
    asked = call.body.topics
    everything = asked is None or (call.version == 0 and not asked)
    names = [topic.name for topic in node.topics] if everything else [topic.name for topic in asked]
    may_create = node.options.auto_create_topics and (call.version < 4 or call.body.allow_auto_topic_creation)
    return response(
        throttle_time_ms=0,
        brokers=[broker],
        cluster_id=node.topics.cluster_id,
        controller_id=NODE_ID,
        topics=[_describe(node, response.MetadataResponseTopic, name, may_create) for name in names],
    )


def _describe(node: Node, topic_type: Any, name: str, may_create: bool) -> Any:
    topic = node.topics.get(name)
    code = Code.NONE
    if topic is None:
        code = Code.UNKNOWN_TOPIC_OR_PARTITION
        try:
            if may_create:
                topic = node.topics.create(name, node.options.num_partitions, {})
                code = Code.NONE
            else:
                node.topics.check_new(name, 1, {})
        except AdminRefused as refused:
            code = refused.code
    partition_type = topic_type.MetadataResponsePartition
    partitions = [
        partition_type(
            error_code=0,
            partition_index=index,
            leader_id=NODE_ID,
            leader_epoch=0,
            replica_nodes=[NODE_ID],
            isr_nodes=[NODE_ID],
            offline_replicas=[],
        )
        for index in range(len(topic.partitions) if topic is not None else 0)
    ]
    return topic_type(error_code=code, name=name, is_internal=False, partitions=partitions)


def find_coordinator(node: Node, call: Call) -> Any:
    """This broker, for groups; transactions are refused here, where clients ask first."""
    response = answer(call.key)
    if call.version >= 1 and call.body.key_type != 0:
        return response(
            throttle_time_ms=0,
            error_code=Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            error_message=NO_TRANSACTIONS,
            node_id=-1,
            host="",
            port=-1,
        )
    return response(
        throttle_time_ms=0, error_code=0, error_message=None, node_id=NODE_ID, host=node.host, port=node.port
    )


def init_producer_id(node: Node, call: Call) -> Any:
    """An id for an idempotent producer; a transactional one is refused."""
    response = answer(call.key)
    if call.body.transactional_id is not None:
        return response(
            throttle_time_ms=0, error_code=Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, producer_id=-1, producer_epoch=-1
        )
    return response(throttle_time_ms=0, error_code=0, producer_id=node.topics.new_producer_id(), producer_epoch=0)


def describe_cluster(node: Node, call: Call) -> Any:
    """The one broker."""
    response = answer(call.key)
    broker = response.DescribeClusterBroker(broker_id=NODE_ID, host=node.host, port=node.port, rack=None)
    return response(
        throttle_time_ms=0,
        error_code=0,
        error_message=None,
        endpoint_type=1,
        cluster_id=node.topics.cluster_id,
        controller_id=NODE_ID,
        brokers=[broker],
    )


def describe_log_dirs(node: Node, call: Call) -> Any:
    """Bytes on disk of the partitions asked for, or of all."""
    response = answer(call.key)
    result = response.DescribeLogDirsResult
    topic_type = result.DescribeLogDirsTopic
    asked = None if call.body.topics is None else {topic.topic: set(topic.partitions) for topic in call.body.topics}
    topics = []
    for topic in node.topics:
        if asked is not None and topic.name not in asked:
            continue
        partitions = [
            topic_type.DescribeLogDirsPartition(
                partition_index=index, partition_size=log.size, offset_lag=0, is_future_key=False
            )
            for index, log in enumerate(topic.partitions)
            if asked is None or index in asked[topic.name]
        ]
        topics.append(topic_type(name=topic.name, partitions=partitions))
    usage = shutil.disk_usage(node.topics.folder)
    folder = result(
        error_code=0, log_dir=str(node.topics.folder), topics=topics, total_bytes=usage.total, usable_bytes=usage.free
    )
    return response(throttle_time_ms=0, error_code=0, results=[folder])


HANDLERS = {
    API_VERSIONS: api_versions,
    METADATA: metadata,
    FIND_COORDINATOR: find_coordinator,
    INIT_PRODUCER_ID: init_producer_id,
    DESCRIBE_CLUSTER: describe_cluster,
    DESCRIBE_LOG_DIRS: describe_log_dirs,
}
