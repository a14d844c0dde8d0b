"""docs/api.md, made of the table of operations."""

from __future__ import annotations

from gateway.operations import OPERATIONS, Operation

__all__ = ["api_page"]

INTRODUCTION = """# The HTTP API

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
  405 not this method, 408 a body that did not come in within a minute, 409 switched off in this world (consent,
  tokens), 413 too large, 422 serving refused the request, 429 too often, 503 Kafka is away or too much is under way
  (both with `retry-after`), 504 no answer in time. Of a list or a batch that is refused nothing is taken, and the
  message says which one was wrong. A GET with a parameter that its path does not know is refused.
- **Lines of JSON** (`application/x-ndjson`) are read as they come, without a limit: what stands before a line that is
  refused is taken, and the error says how many events that were.
- **Trackers** of the analytics.js kind work by changing their host: `/v1/track`, `/v1/identify`, `/v1/batch`, the key
  as the user of Basic authentication. Events of the ecommerce specification have their types (Product Viewed: view,
  Product Clicked: click, Product Added: cart, Order Completed: purchase of each product, Product List Viewed:
  impression); others keep their name, written small. What names no item, or has a name that makes no type, is ignored,
  and the answer says so.
- **A stream** (`/v1/recommendations/stream`) sends `event: list`, then one for each list that differs, `: same` where
  none does, `event: problem` where no list could be had. It ends with its key or token. A WebSocket of the same path
  says the same as `{"event", "data"}`: what its URL asks for, and each message that it is sent, a Request, asks anew.
  A page gives it its token as a subprotocol, beside `headwater`: `new WebSocket(url, ["headwater", token])`.
- **The page** (`gateway.page`) is at `/`: [page.md](page.md).
- **Ids in paths** are quoted (`films%2F7`), as in any URL.

## Keys

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


def api_page(generated: str) -> str:
    """The page. `generated`: where it comes from."""
    lines = [f"<!-- {generated} -->", INTRODUCTION]
    lines += ["| | | scope | |", "|---|---|---|---|"]
    lines += [f"| {one.method} | `{one.path}` | {one.scope or ''} | {_says(one)} |" for one in OPERATIONS]
    return "\n".join(lines) + "\n"


def _says(one: Operation) -> str:
    queries = "; ".join(f"`{name}`: {says}" for name, _, says in one.query)
    return f"{one.says}{f' {queries}' if queries else ''}"
