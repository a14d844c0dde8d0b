"""Topics on disk: the log of each partition, its segments and batches, the settings of topics, retention, compaction.

Knows no group and no client.
"""

from embedded.log.partition import PartitionLog
from embedded.log.topics import AdminRefused, BrokerTopic, Topics

__all__ = ["AdminRefused", "BrokerTopic", "PartitionLog", "Topics"]
