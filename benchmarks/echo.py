"""The least a Kafka worker can do: read a record, write it to another topic. The yardstick of benchmarks/latency.py.

`python -m benchmarks.echo FROM TO`: the settings say where Kafka is, as for any worker.
"""

from __future__ import annotations

import signal
import sys
import threading

from kafka import TopicPartition

from headwater.kafka import consumer, producer
from headwater.settings import load_settings


def main() -> None:
    """Echo until SIGTERM."""
    source, target = sys.argv[1:]
    kafka = load_settings().kafka
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    reader, writer = consumer(kafka), producer(kafka)
    reader.assign([TopicPartition(source, partition) for partition in reader.partitions_for_topic(source)])
    reader.seek_to_end()
    for partition in reader.assignment():
        reader.position(partition)  # resolves the seek now, not at the first poll
    print("ready", flush=True)
    while not stopping.is_set():
        for records in reader.poll(timeout_ms=500).values():
            for record in records:
                writer.send(target, key=record.key, value=record.value)
    writer.close()
    reader.close()


if __name__ == "__main__":
    main()
