"""Who we are to a server and how we know it: the one place that turns settings into arguments of a connection.

Before: settings. After: `headwater.kafka` (kafka-python), `streams.app` (Faust, aiokafka) and the feature store's
server (redis-py), each of which knows its library's words. A file that is missing or a key without a certificate is
told here, at the start, with the setting to correct.
"""

from headwater.security.logins import KafkaLogin, RedisLogin, kafka_login, redis_login
from headwater.security.tls import TlsFiles, broken_off, tls_context
from headwater.security.tokens import Tokens

__all__ = ["KafkaLogin", "RedisLogin", "TlsFiles", "Tokens", "broken_off", "kafka_login", "redis_login", "tls_context"]
