"""The table of what the front door does: paths, who may, what goes in and what comes out.

Routes, `/openapi.json` and docs/api.md are all made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gateway.api_keys import ADMIN, PRODUCE, RECOMMEND
from gateway.calls import LEAST_EVERY_MS, MOST_EVERY_MS
from headwater.events import MAX_ID_LENGTH
from headwater.recommendations import MAX_K

__all__ = ["OPERATIONS", "Operation"]


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Fields
        name: of the method of `gateway.doors.Doors` that does it.
        scope: that a key needs; None: nobody is asked.
        says: what it does, in a sentence.
        takes, gives: names of schemas of `gateway.openapi`; None: no body.
        query: parameters of the query, with their JSON Schema and what they mean.
        status: of an answer that is no error.
        also: other paths of the same, as trackers call them.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    name: str
    scope: Literal["produce", "recommend", "admin"] | None
    says: str
    takes: str | None = None
    gives: str | None = None
    query: tuple[tuple[str, dict[str, Any], str], ...] = ()
    status: int = 200
    also: tuple[str, ...] = ()


ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH}
K = ("k", {"type": "integer", "minimum": 1, "maximum": MAX_K}, "How many, 1 to 1,000.")
SURFACE = ("surface", ID, "The place on the page, by its name.")
CONTEXT_ITEM = ("context_item", ID, "The item on the page.")
AFTER = ("after", {"type": "string"}, "What an answer to events gave: this answer knows of them.")
WAIT = (
    "wait",
    {"enum": ["acked", "no"]},
    "acked (the default): answer when Kafka has them; no: at once, without positions.",
)
EVERY = (
    "every_ms",
    {"type": "integer", "minimum": LEAST_EVERY_MS, "maximum": MOST_EVERY_MS},
    f"Look so often, {LEAST_EVERY_MS} to {MOST_EVERY_MS:,}.",
)
ASKED = (K, SURFACE, CONTEXT_ITEM, AFTER)

OPERATIONS = (
    Operation("POST", "/v1/events", "events", PRODUCE,
        "Tell what users did: one Event, a list of them, or lines of JSON (application/x-ndjson) as they come.",
        "Events", "Accepted", (WAIT,), 202),
    Operation("POST", "/v1/track", "track", PRODUCE, "An event, as trackers of the Segment kind send it.",
        "TrackerCall", "Accepted", (), 202, ("/v1/t",)),
    Operation("POST", "/v1/batch", "batch", PRODUCE, "Many calls of such a tracker.", "TrackerBatch", "Accepted",
        (), 202, ("/v1/b",)),
    Operation("POST", "/v1/alias", "other_call", PRODUCE,
        "What else such a tracker calls: an alias links two ids; a page, a screen or a group says nothing of an item, "
        "and is ignored.", "TrackerCall", "Accepted", (), 202,
        ("/v1/a", "/v1/page", "/v1/p", "/v1/screen", "/v1/s", "/v1/group", "/v1/g")),
    Operation("POST", "/v1/identify", "identify", PRODUCE,
        "Tell that a user is known by another id, too: `user_id` and `was`; or the identify of a tracker.",
        "Identity", "Accepted", (), 202, ("/v1/i",)),
    Operation("POST", "/v1/recommendations", "recommend", RECOMMEND, "Ask for the best items for somebody, now.",
        "Asked", "Recommendation"),
    Operation("GET", "/v1/users/{user_id}/recommendations", "recommend_by_url", RECOMMEND,
        "The same, for what a URL can say.", None, "Recommendation", ASKED),
    Operation("GET", "/v1/items/{item_id}/similar", "similar", RECOMMEND, "Items for somebody who looks at this one.",
        None, "Recommendation", (K, SURFACE)),
    Operation("GET", "/v1/recommendations/stream", "stream", RECOMMEND,
        "Server-sent events: a list, and each list that takes its place as the user goes on. A WebSocket of the same "
        "path gives the same.", None, "Stream",
        (("user_id", ID, "Whom for."), *ASKED, EVERY)),
    Operation("POST", "/v1/recommendations/stream", "stream_asked", RECOMMEND,
        "The same of a whole request, also with `explain`; no id stands in a URL.", "Asked", "Stream"),
    Operation("GET", "/v1/receipts/{request_id}", "receipt", RECOMMEND,
        "The receipt of an answer that went out through this process lately.", None, "Receipt"),
    Operation("PUT", "/v1/items", "put_items", ADMIN, "Publish items of the catalogue: one, or a list.", "Items",
        "Accepted", (), 202),
    Operation("DELETE", "/v1/items/{item_id}", "remove_item", ADMIN,
        "Take an item out of the catalogue and out of answers.", None, "Accepted", (), 202),
    Operation("PUT", "/v1/users", "put_users", ADMIN, "Tell attributes of users: one, or a list.", "Users", "Accepted",
        (), 202),
    Operation("PUT", "/v1/users/{user_id}/consent", "set_consent", PRODUCE,
        "Say for which purposes what a user does may be used, in one word: docs/privacy.md; with privacy.consent on. "
        "Of several ids of a person the strictest counts.",
        "Consent", "Accepted", (), 202),
    Operation("DELETE", "/v1/users/{user_id}", "forget_user", ADMIN,
        "Forget this id, for good: docs/privacy.md says what goes when. Other ids of the same person take calls of "
        "their own.", None, "Accepted", (), 202),
    Operation("POST", "/v1/tokens", "token", ADMIN, "A token by which one user's browser may track and ask.",
        "TokenAsked", "Token"),
    Operation("GET", "/healthz", "healthz", None, "Whether the process lives."),
    Operation("GET", "/readyz", "readyz", None, "Whether it should be sent work."),
    Operation("GET", "/metrics", "metrics", ADMIN, "Prometheus metrics; the worker's own port asks for no key."),
    Operation("GET", "/openapi.json", "openapi", None, "This table, as OpenAPI 3.1."),
)  # fmt: skip
