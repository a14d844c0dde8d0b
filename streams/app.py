"""The Faust app of the streams worker, configured: how it talks to Kafka and what of Faust is left out.

Before: settings. After: `streams.agents` hangs its agents on it, `streams.worker` starts and stops it. Left out are
Faust's web server, tables, leader election, serializers and exactly-once mode; Headwater builds on at-least-once
delivery with idempotent effects.
"""

from __future__ import annotations

import asyncio
from typing import Any

import faust
from aiokafka.abc import AbstractTokenProvider

from headwater.process import Retry
from headwater.security import Tokens, kafka_login
from headwater.settings import KafkaSettings
from headwater.topics import Topic, topic_name
from streams.faust_internals import FaustApp

__all__ = ["GROUP", "make_app", "raw_topic"]

GROUP = "streams"
"""Consumer group of the streams worker, under the world's prefix."""

MAX_FETCH_BYTES = 4 << 20
MAX_REQUEST_BYTES = 1 << 20
"""Largest record, as a broker takes by default."""

MAX_BATCH_BYTES = 1_000_000
"""Records that are sent together stay below that: a broker refuses a larger batch as it does a larger record."""

LONGER_THAN_ANY_STALL_S = 86_400.0


def make_app(kafka: KafkaSettings, retry: Retry) -> Any:
    """A Faust app that consumes as group `streams` and commits once a second what was acknowledged."""
    return FaustApp(
        retry,
        kafka.prefix + GROUP,
        broker=[f"kafka://{address}" for address in kafka.bootstrap.split(",")],
        broker_credentials=_credentials(kafka),
        broker_session_timeout=max(1, kafka.session_timeout_ms // 1000),
        broker_heartbeat_interval=1,
        broker_commit_interval=1.0,
        broker_request_timeout=max(30, kafka.session_timeout_ms // 1000 + 1),
        consumer_max_fetch_size=MAX_FETCH_BYTES,
        producer_acks=-1,
        producer_linger=0.0,  # one record a batch and partition is sent already: waiting for more only delays it
        producer_max_request_size=MAX_REQUEST_BYTES,
        producer_max_batch_size=MAX_BATCH_BYTES,
        producer_request_timeout=20.0,
        stream_buffer_maxsize=512,
        stream_wait_empty=False,  # a batch in flight during a rebalance is fenced by its marks
        stream_processing_timeout=LONGER_THAN_ANY_STALL_S,  # streams.lag watches instead
        broker_commit_livelock_soft_timeout=LONGER_THAN_ANY_STALL_S,
        processing_guarantee="at_least_once",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        autodiscover=False,
        loghandlers=[],
    )


def raw_topic(app: Any, topic: Topic, prefix: str) -> Any:
    """A topic of the table as Faust sees it: bytes in, bytes out."""
    return app.topic(topic_name(topic, prefix), key_serializer="raw", value_serializer="raw", internal=False)


def _credentials(kafka: KafkaSettings) -> Any:
    login = kafka_login(kafka)
    if login.tokens is not None:
        return faust.OAuthCredentials(oauth_cb=FaustTokens(login.tokens), ssl_context=login.context)
    if login.mechanism is not None:
        return faust.SASLCredentials(
            username=login.username,
            password=login.password,
            mechanism=login.mechanism,
            ssl_context=login.context,
        )
    return faust.SSLCredentials(login.context) if login.context else None


class FaustTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens as aiokafka asks for them: who gives them may be slow, and the loop does not wait."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def token(self) -> str:
        """One that is valid now."""
        return await asyncio.get_running_loop().run_in_executor(None, self._tokens.token)
