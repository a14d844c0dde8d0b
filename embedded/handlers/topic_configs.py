"""Settings described and changed.

Knows nothing of records. The broker's own settings are read-only.
"""

from typing import Any

from embedded.handlers.node import NODE_ID, Node
from embedded.log import AdminRefused, BrokerTopic, topic_settings
from embedded.protocol import MAX_FRAME_BYTES, Call, Code, answer

DESCRIBE_CONFIGS, ALTER_CONFIGS, INCREMENTAL_ALTER_CONFIGS = 32, 33, 44
TOPIC, BROKER = 2, 4  # resource types
FROM_TOPIC, FROM_BROKER, FROM_DEFAULT = 1, 4, 5  # config sources
SET, DELETE, APPEND, SUBTRACT = range(4)


def describe_configs(node: Node, call: Call) -> Any:
    """Settings of topics, and a few of the broker."""
    response = answer(call.key)
    result = response.DescribeConfigsResult
    one = result.DescribeConfigsResourceResult
    results = []
    for resource in call.body.resources:
        code, message, settings = Code.NONE, None, []
        try:
            rows = (
                _topic_rows(node, resource.resource_name)
                if resource.resource_type == TOPIC
                else _broker_rows(node, resource)
            )
            wanted = resource.configuration_keys
            settings = [
                one(
                    name=name,
                    value=value,
                    read_only=source == FROM_BROKER,
                    config_source=source,
                    is_default=source == FROM_DEFAULT,
                    is_sensitive=False,
                    synonyms=[],
                    config_type=kind,
                    documentation=None,
                )
                for name, value, kind, source in rows
                if not wanted or name in wanted
            ]
        except AdminRefused as refused:
            code, message = refused.code, refused.message
        results.append(
            result(
                error_code=code,
                error_message=message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
                configs=settings,
            )
        )
    return response(throttle_time_ms=0, results=results)


def _topic_rows(node: Node, name: str) -> list[tuple[str, str | None, int, int]]:
    own = _topic(node, name).overrides
    return [
        (key, own.get(key, setting.default), setting.type, FROM_TOPIC if key in own else FROM_DEFAULT)
        for key, setting in topic_settings.SETTINGS.items()
    ]


def _broker_rows(node: Node, resource: Any) -> list[tuple[str, str | None, int, int]]:
    if resource.resource_type != BROKER or resource.resource_name != str(NODE_ID):
        raise AdminRefused(
            Code.INVALID_REQUEST,
            f"resource type {resource.resource_type}, name {resource.resource_name!r}: "
            f"topics (type {TOPIC}) and broker {NODE_ID} (type {BROKER}) have settings here",
        )
    options = node.options
    values = {
        "auto.create.topics.enable": str(options.auto_create_topics).lower(),
        "num.partitions": options.num_partitions,
        "default.replication.factor": 1,
        "group.initial.rebalance.delay.ms": options.initial_rebalance_delay_ms,
        "group.min.session.timeout.ms": options.min_session_timeout_ms,
        "group.max.session.timeout.ms": options.max_session_timeout_ms,
        "socket.request.max.bytes": MAX_FRAME_BYTES,
    }
    return [(key, str(values[key]), kind, FROM_BROKER) for key, kind in topic_settings.BROKER_SETTINGS.items()]


def _topic(node: Node, name: str) -> BrokerTopic:
    topic = node.topics.get(name)
    if topic is None:
        raise AdminRefused(Code.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name}")
    return topic


def alter_configs(node: Node, call: Call) -> Any:
    """Replaces all of a topic's own settings by those given."""
    return _alter(node, call, _replaced)


def _replaced(_: BrokerTopic, resource: Any) -> dict[str, str | None]:
    return {config.name: config.value for config in resource.configs}


def incremental_alter_configs(node: Node, call: Call) -> Any:
    """Changes single settings of a topic."""
    return _alter(node, call, _merged)


def _merged(topic: BrokerTopic, resource: Any) -> dict[str, str | None]:
    own = dict(topic.overrides)
    for change in resource.configs:
        setting = topic_settings.SETTINGS.get(change.name)
        operation = change.config_operation
        if operation == SET or setting is None:
            own[change.name] = change.value
        elif operation == DELETE:
            own.pop(change.name, None)
        elif operation in (APPEND, SUBTRACT) and setting.type == topic_settings.LIST:
            now = [part for part in (own.get(change.name) or setting.default).split(",") if part != change.value]
            own[change.name] = ",".join([*now, change.value] if operation == APPEND else now)
        else:
            raise AdminRefused(Code.INVALID_REQUEST, f"{change.name}: operation {operation} does not apply")
    return own


def _alter(node: Node, call: Call, change: Any) -> Any:
    response = answer(call.key)
    result = response.AlterConfigsResourceResponse
    results = []
    for resource in call.body.resources:
        code, message = Code.NONE, None
        try:
            if resource.resource_type != TOPIC:
                raise AdminRefused(
                    Code.INVALID_REQUEST, "only topics' settings can be changed; the broker's are its command line"
                )
            topic = _topic(node, resource.resource_name)
            own = change(topic, resource)
            topic_settings.parse(own)
            if not call.body.validate_only:
                node.topics.configure(topic, own)
        except AdminRefused as refused:
            code, message = refused.code, refused.message
        except ValueError as problem:
            code, message = Code.INVALID_CONFIG, f"topic {resource.resource_name}: {problem}"
        results.append(
            result(
                error_code=code,
                error_message=message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
    return response(throttle_time_ms=0, responses=results)


HANDLERS = {
    DESCRIBE_CONFIGS: describe_configs,
    ALTER_CONFIGS: alter_configs,
    INCREMENTAL_ALTER_CONFIGS: incremental_alter_configs,
}
