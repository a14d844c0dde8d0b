"""Headwater for apps: send events, ask for recommendations.

    from headwater import Client

    with Client("127.0.0.1:9092") as client:
        client.track("visitor-1", "film-42", "click")
        print(client.recommend("visitor-1", k=5).items)

Importing this package loads pydantic and nothing of the engine (no torch, faust, redis, onnxruntime); kafka-python and
pydantic-settings are loaded when `Client` is first named.
"""

from typing import TYPE_CHECKING, Any

from headwater.errors import (
    AccessDenied,
    AnotherLog,
    BundleError,
    CheckpointError,
    DeadlineExceeded,
    HeadwaterError,
    InvalidMessage,
    NewerFormat,
    RequestRefused,
    SettingsError,
    SourceError,
    Stalled,
    StoreDamaged,
    Unavailable,
)
from headwater.events import Event, Item
from headwater.identities import Identity
from headwater.recommendations import Receipt, Recommendation, RecommendedItem, Refusal, Request
from headwater.users import User

if TYPE_CHECKING:
    from headwater.client import Client

__all__ = [
    "AccessDenied",
    "AnotherLog",
    "BundleError",
    "CheckpointError",
    "Client",
    "DeadlineExceeded",
    "Event",
    "HeadwaterError",
    "Identity",
    "InvalidMessage",
    "Item",
    "NewerFormat",
    "Receipt",
    "Recommendation",
    "RecommendedItem",
    "Refusal",
    "Request",
    "RequestRefused",
    "SettingsError",
    "SourceError",
    "Stalled",
    "StoreDamaged",
    "Unavailable",
    "User",
]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from headwater.client import Client

        return Client
    raise AttributeError(f"module 'headwater' has no attribute {name!r}")
