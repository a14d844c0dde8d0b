"""Recommendations before and after three clicks, with kafka-python alone: python plain_kafka.py BROKER [PREFIX]"""

import json
import sys
import uuid

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

broker, prefix = sys.argv[1], "".join(sys.argv[2:])
user, producer = f"visitor-{uuid.uuid4().hex[:8]}", KafkaProducer(bootstrap_servers=broker)
answers, replies = KafkaConsumer(bootstrap_servers=broker), prefix + "recommendations"
answers.assign([TopicPartition(replies, number) for number in answers.partitions_for_topic(replies)])
_ = [answers.position(partition) for partition in answers.assignment()]  # from now on


def send(topic, body):
    return producer.send(prefix + topic, json.dumps(body).encode(), key=user.encode()).get(10)


def recommend(after):
    send("requests", asked := {"request_id": uuid.uuid4().hex, "user_id": user, "k": 10, "after": after})
    bodies = (json.loads(record.value) for record in answers)
    return [item["item_id"] for item in next(b for b in bodies if b["request_id"] == asked["request_id"])["items"]]


print("before:", recommend({}))
clicks = [send("events", {"user_id": user, "item_id": film, "type": "click"}) for film in ("50", "181", "172")]
print("after: ", recommend({str(click.partition): click.offset for click in clicks}))
