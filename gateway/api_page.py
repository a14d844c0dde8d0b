"""docs/api.md, made of the table of operations."""

from __future__ import annotations

from gateway.operations import OPERATIONS, Operation
from gateway.rpc.methods import METHODS

__all__ = ["api_page"]

INTRODUCTION = """# The API: HTTP and gRPC

For whoever does not speak Kafka: the gateway writes to the same topics and reads the same answers as the
[SDK](../headwater/README.md), keeps nothing, and can run as often as wanted behind a balancer. `headwater up` starts
one and prints its address; alone it is `python -m gateway.worker` ([settings](settings.md), `gateway.*`). The same as
[OpenAPI 3.1](contract/openapi.json), which a running one serves at `/openapi.json`.

```console
curl http://127.0.0.1:8080/v1/events -d '[{"user_id": "ann", "item_id": "film-7", "type": "click"},
                                          {"user_id": "bob", "item_id": "film-9", "type": "click"}]'
curl 'http://127.0.0.1:8080/v1/users/ann/recommendations?k=5'
```

The list has film-9: what the engine knows of, by events or `PUT /v1/items`, without what she has had.
`receipt.fallback` says why it is not personal yet.

- **Her own events.** The answer to an event holds `after` (and a header `headwater-after`, which adds up what the
  request's held): give it back in a request (`after`, that header, or a cookie `headwater_after`), and the answer
  knows of the event.
- **Durable before it answers.** 202 means that Kafka has it; `?wait=no` does not wait, and has no `after`.
- **Errors** are `{"error": {"code", "message"}}`: 400 what was sent is wrong, 401 and 403 the key, 404 no such path,
  405 not this method, 408 a body or a line that did not come in within a minute, 409 switched off in this world
  (consent, tokens), 413 too large, 422 serving refused the request, 429 too often, 503 Kafka is away or too much is
  under way (both with `retry-after`), 504 no answer in time. Of a list or a batch that is refused nothing is taken, and
  the message says which one was wrong. A GET with a parameter that its path does not know is refused; `key` and `_`
  (which keeps caches away) stand everywhere.
- **One call** holds 10,000 events, items or users at most (of trackers: events that its products make); more take
  several calls, or lines. As much as four of the largest bodies (`gateway.max_body_bytes`; 20 MB at least) is under way
  at once, until Kafka has it: what is over is 503, come again. Many senders of large bodies take lines, which have no
  such bound.
- **Lines of JSON** (`application/x-ndjson`) are read as they come, as many as you like: what stands before a line that
  is refused is taken, and the error says how many events that were. A line that has begun ends within a minute.
  Where the gateway stops meanwhile, the answer is 503, with the same figure: send the rest again.
- **Trackers** of the analytics.js kind work by changing their host: `/v1/track`, `/v1/identify`, `/v1/batch` and the
  like, or by their first letter as analytics.js calls them (its `apiHost` is this host with `/v1`), the key as the user
  of Basic authentication. A `writeKey` in the body is no key: where one is needed, analytics.js brings a token in
  `deliveryStrategy.config.headers`. Events of the ecommerce specification have the types that a file of them has
  ([your-data.md](your-data.md)): Product Viewed: view, Product Added: add_to_cart, Product Removed: remove_from_cart,
  which takes that back, Order Completed and Refunded: purchase and refund of each product, Product List Viewed and
  Filtered: impression. Others keep their name, written small. What names no item, says nothing new of its products
  (Cart Viewed), or has a name that makes no type, is ignored, and the answer says so. Where `sentAt` is later than
  now, the sender's clock is ahead: its `timestamp` is taken back by as much.
- **A stream** (`/v1/recommendations/stream`) sends `event: list`, then one for each list that differs, `: same` where
  none does, `event: problem` where no list could be had. It ends with its key or token. A WebSocket of the same path
  says the same as `{"event", "data"}`: what its URL asks for, and each message that it is sent, a Request, asks anew.
  A page gives it its token as a subprotocol, beside `headwater`: `new WebSocket(url, ["headwater", token])`.
- **The page** (`gateway.page`) is at `/`: [page.md](page.md).
- **Ids in paths** are quoted (`films%2F7`), as in any URL.
"""

KEYS = """## Keys

On loopback, and as long as there has been no key, nobody is asked for one: whoever passes on calls of others from
there sets `gateway.needs_keys`. `headwater keys create NAME --scope produce,recommend` prints a key once (what is
kept is its argon2id hash, on the topic `api-keys`); `list`, `rotate` and `revoke` do what they say, in every gateway
at once, of streams too, and stand in the audit log. Send it as `Authorization: Bearer hw_...`, as `X-API-Key`, as the
user of Basic, or as `?key=` where nothing else can be sent. Scopes: `produce` (events, links), `recommend`, `admin`
(items, users, erasure, tokens). Listening on another address than loopback takes keys, or `gateway.needs_keys =
false`. `rotate` makes a key that holds for as long as the old one did, from now; the old one goes by `revoke`. Types of
events that begin with `headwater.` are the engine's own, and refused: so `produce` forgets nobody. Where nobody is
asked for a key, pages of other sites are refused by their `Origin`, and so is who calls this gateway by a name that is
not its own (`Host`: a name can be made to point to anybody's loopback; addresses, `localhost` and the hosts of
`gateway.cors_origins` may): `gateway.cors_origins` names those that may, and `["*"]` lets all.

A page must not hold a key. Its server asks `POST /v1/tokens` (scope admin; `gateway.token_secret`) for a token of one
user, for an hour unless told (`ttl_s`); with that the browser tracks and asks for this user alone, and links it with
the ids that the token names in `was`, no others. It tells no attributes. `gateway.cors_origins` says which pages may.

## Operations
"""

RPC = """## gRPC

The same gateway speaks gRPC where `gateway.grpc_port` is set (`pip install 'headwater-engine[grpc]'`; `gateway.host`
and its rule of keys hold for both). [headwater.proto](../gateway/rpc/headwater.proto) is the whole of it; reflection
and `grpc.health.v1` need no key. Without a file and without generated code, after `pip install grpcio-reflection`:

```python
import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Headwater:
    def __init__(self, address, key=None):
        self.channel = grpc.insecure_channel(address)
        self.service = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel)).FindServiceByName(
            "headwater.v1.Headwater"
        )
        self.metadata = [("authorization", f"Bearer {key}")] if key else []

    def __call__(self, name, timeout=5.0, **fields):
        method = self.service.methods_by_name[name]
        takes, gives = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        opened = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        call = opened(f"/{self.service.full_name}/{name}", takes.SerializeToString, gives.FromString)
        return call(takes(**fields), timeout=timeout, metadata=self.metadata)


headwater = Headwater("127.0.0.1:50051")
told = headwater("SendEvents", events=[{"user_id": "ann", "item_id": "film-7", "type": "click"}])
found = headwater("Recommend", user_id="ann", k=5, after=[told.after])
print([one.item_id for one in found.items])
```

With `grpcurl`, `grpcurl -plaintext -d '{"user_id": "ann", "k": 5}' 127.0.0.1:50051 headwater.v1.Headwater/Recommend`
asks the same; code for any language is made of the proto file, for Python by
`python -m grpc_tools.protoc -I gateway/rpc --python_out=. --grpc_python_out=. headwater.proto`.

- **Fields** are named and mean as in the JSON. What has no fixed form (`properties`, `attributes`, `filters`,
  `overrides`, `context`) is a `google.protobuf.Struct`, whose whole numbers stay whole. Where an empty list says
  something else than none (`candidates`, `exclude_seen`), it is a message `Strings`.
- **Her own events.** `Accepted.after` goes into `RecommendRequest.after`, which takes several: they add up.
- **The deadline** of a call is how long an answer is waited for, 60 s at most; without one it is `gateway.deadline_ms`.
  A call that is cancelled frees its place.
- **A stream in**: `StreamEvents` takes what stands before a message that is refused, and `headwater-accepted` in the
  trailing metadata says how many that were. **A stream out**: `StreamRecommendations` gives a list and each that
  takes its place; one with `error` says why there is none just now. Where the gateway stops it ends with
  UNAVAILABLE: ask again, of the next.
- **Errors** have the texts of HTTP, and in the trailing metadata `headwater-code`, its `code`: 400 and 422 are
  INVALID_ARGUMENT, 401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 404 NOT_FOUND, 408 CANCELLED, 409 FAILED_PRECONDITION,
  429 RESOURCE_EXHAUSTED, 503 UNAVAILABLE, 504 DEADLINE_EXCEEDED. 429 and 503 have `retry-after` (seconds) and
  `grpc-retry-pushback-ms`, by which a client with a policy of retries waits by itself. A message over
  `gateway.max_body_bytes` is RESOURCE_EXHAUSTED.
- **Keys and tokens** as below, in the metadata `authorization` (`Bearer hw_...`) or `x-api-key`. There is no TLS here,
  as for HTTP: it ends at the balancer in front, which has to speak HTTP/2 to the gateway. Connections end after ten
  minutes between two calls, so that clients find new gateways.
- **A trace** goes on from `traceparent` in the metadata, as from HTTP's header.
- **Not there**: calls of trackers, which speak HTTP.
"""


def api_page(generated: str) -> str:
    """The page. `generated`: where it comes from."""
    lines = [f"<!-- {generated} -->", INTRODUCTION, RPC, "| gRPC | HTTP | scope |", "|---|---|---|"]
    lines += [
        f"| {one.name} | `{one.operation.method} {one.operation.path}` | {one.operation.scope} |" for one in METHODS
    ]
    lines += ["", KEYS]
    lines += ["| | | scope | |", "|---|---|---|---|"]
    lines += [f"| {one.method} | `{one.path}` | {one.scope or ''} | {_says(one)} |" for one in OPERATIONS]
    return "\n".join(lines) + "\n"


def _says(one: Operation) -> str:
    queries = "; ".join(f"`{name}`: {says}" for name, _, says in one.query)
    also = ", ".join(f"`{path}`" for path in one.also)
    return f"{one.says}{f' {queries}' if queries else ''}{f' Also at {also}.' if also else ''}"
