"""Options of every socket to Kafka: a machine that is gone without a word is noticed within seconds.

Who waits for an answer sends nothing, so only the wait itself would end: 30 s in kafka-python, 40 s in aiokafka. A
keepalive asks the other machine: one that was started anew refuses the connection, one that is away does not answer. A
broker that is slow, or stands still, keeps the connection, for its machine answers.
"""

from __future__ import annotations

import socket

from headwater.sockets import keepalive

__all__ = ["SOCKET_OPTIONS"]

IDLE_S, EVERY_S, TIMES = 3, 3, 3
"""After so long without a word it is asked, so often again, before the connection is given up: 12 s."""

SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    *keepalive(
        TCP_KEEPIDLE=IDLE_S,
        TCP_KEEPINTVL=EVERY_S,
        TCP_KEEPCNT=TIMES,
        TCP_USER_TIMEOUT=1000 * (IDLE_S + EVERY_S * TIMES),  # what was sent and is not acknowledged
    ),
]
"""As `setsockopt` takes each."""
