"""Recommendations before and after three clicks, with kafka-python alone: python plain_kafka.py BROKER [PREFIX]"""

import json
import sys
import uuid

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

if len(sys.argv) not in (2, 3):
    sys.exit(print(__doc__, file=sys.stderr) or 2)
broker, prefix, user = sys.argv[1], "".join(sys.argv[2:]), f"visitor-{uuid.uuid4().hex[:8]}"
try:
    replies, patience = prefix + "recommendations", {"bootstrap_timeout_ms": 5000, "consumer_timeout_ms": 15_000}
    answers = KafkaConsumer(bootstrap_servers=broker, **patience)
    if replies not in answers.topics():
        raise LookupError(f"{broker} has no topic {replies}: is the prefix right?")
    answers.assign([TopicPartition(replies, number) for number in answers.partitions_for_topic(replies)])
    _ = [answers.position(partition) for partition in answers.assignment()]  # from now on
    producer = KafkaProducer(bootstrap_servers=broker)
except (KafkaError, LookupError) as error:
    sys.exit(print(f"{error}\n{__doc__}", file=sys.stderr) or 2)


def send(topic, body):
    return producer.send(prefix + topic, json.dumps(body).encode(), key=user.encode()).get(10)


def recommend(after):
    send("requests", asked := {"request_id": uuid.uuid4().hex, "user_id": user, "k": 10, "after": after})
    bodies = (json.loads(record.value) for record in answers)
    found = next((body for body in bodies if body["request_id"] == asked["request_id"]), None)
    return [item["item_id"] for item in found["items"]] if found else "no answer: does a serving worker run?"


print("before:", recommend({}))
clicks = [send("events", {"user_id": user, "item_id": film, "type": "click"}) for film in ("50", "181", "172")]
print("after: ", recommend({str(click.partition): click.offset for click in clicks}))
