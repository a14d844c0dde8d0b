"""A click, and a list that knows of it, with confluent-kafka alone: python plain_confluent.py BROKER [PREFIX]"""

import json
import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

if len(sys.argv) not in (2, 3):
    sys.exit(print(__doc__, file=sys.stderr) or 2)
broker, prefix, user = sys.argv[1], "".join(sys.argv[2:]), f"visitor-{uuid.uuid4().hex[:8]}"
common = {"bootstrap.servers": broker, "log_level": 0}
# As Java's client, kafka-python and the SDK choose. With librdkafka's own choice (CRC32) features are right, too, but a
# user's events lie in two partitions, in no order between these.
producer = Producer({**common, "partitioner": "murmur2_random", "enable.idempotence": True})
answers = Consumer({**common, "group.id": user, "enable.auto.commit": False})
try:
    replies = answers.list_topics(prefix + "recommendations", timeout=5).topics[prefix + "recommendations"]
    if replies.error is not None or not replies.partitions:
        raise LookupError(f"{broker} has no topic {prefix}recommendations: is the prefix right?")
    parts = [TopicPartition(replies.topic, number) for number in replies.partitions]
    for part in parts:
        part.offset = answers.get_watermark_offsets(part, timeout=5)[1]  # from now on
    answers.assign(parts)
except (KafkaException, LookupError) as error:
    sys.exit(print(f"{error}\n{__doc__}", file=sys.stderr) or 2)


def send(topic, body):
    at = []
    producer.produce(prefix + topic, json.dumps(body), user, on_delivery=lambda error, sent: at.append((error, sent)))
    producer.flush(10)
    if not at or at[0][0] is not None:
        sys.exit(f"{topic}: not acknowledged: {at[0][0] if at else 'no answer within 10 s'}")
    return at[0][1]


click = send("events", {"user_id": user, "item_id": "50", "type": "click"})
print(f"events[{click.partition()}]@{click.offset()}")
asked = {"request_id": uuid.uuid4().hex, "user_id": user, "k": 10, "after": {str(click.partition()): click.offset()}}
send("requests", asked)
until = time.monotonic() + 15
while time.monotonic() < until:
    record = answers.poll(1.0)
    if record is not None and record.error() is None:
        found = json.loads(record.value())
        if found["request_id"] == asked["request_id"]:
            sys.exit(print([item["item_id"] for item in found["items"]]))
sys.exit("no answer: does a serving worker run?")
