"""The table of what gRPC does: the name of each method, and the operation of HTTP that it is.

`gateway.rpc.server` and docs/api.md are made of it.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.operations import OPERATIONS, Operation

__all__ = ["METHODS", "SERVICE", "Method"]

SERVICE = "headwater.v1.Headwater"
_NAMED = {one.name: one for one in OPERATIONS}


class Method(NamedTuple):
    """One method of the service.

    Fields
        name: in the proto file.
        operation: which says who may.
    """

    name: str
    operation: Operation


METHODS = (
    Method("SendEvents", _NAMED["events"]),
    Method("StreamEvents", _NAMED["events"]),
    Method("Identify", _NAMED["identify"]),
    Method("Recommend", _NAMED["recommend"]),
    Method("Similar", _NAMED["similar"]),
    Method("StreamRecommendations", _NAMED["stream_asked"]),
    Method("GetReceipt", _NAMED["receipt"]),
    Method("PutItems", _NAMED["put_items"]),
    Method("RemoveItem", _NAMED["remove_item"]),
    Method("PutUsers", _NAMED["put_users"]),
    Method("SetConsent", _NAMED["set_consent"]),
    Method("ForgetUser", _NAMED["forget_user"]),
    Method("CreateToken", _NAMED["token"]),
)
