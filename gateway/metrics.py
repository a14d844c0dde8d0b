"""What the front door counts, whichever way it is used."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["GONE", "GatewayMetrics"]

BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
GONE = 499
"""Status of requests whose sender left before their end; nginx's."""


class GatewayMetrics:
    """Into the worker's registry."""

    def __init__(self, registry: CollectorRegistry, waiting: Callable[[], float], lost: Callable[[], float]) -> None:
        self.answered = Counter(
            "headwater_gateway_requests",
            "Requests, by operation and status.",
            ["operation", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "headwater_gateway_seconds", "From a request to its answer.", ["operation"], buckets=BUCKETS_S,
            registry=registry,
        )  # fmt: skip
        Gauge("headwater_gateway_waiting", "Requests under way.", registry=registry).set_function(waiting)
        Gauge(
            "headwater_gateway_lost_records",
            "Records of calls with wait=no that Kafka did not take.",
            registry=registry,
        ).set_function(lost)
