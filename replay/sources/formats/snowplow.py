"""Snowplow's enriched events: 131 fields that tabs part, without a header.

Before: https://docs.snowplow.io/docs/pipeline/enriched-tsv-format/ (the order of the fields),
https://docs.snowplow.io/docs/fundamentals/canonical-event/ (what they are),
https://docs.snowplow.io/docs/events/ootb-data/ecommerce-events/ (the events of shops). After: `known`.

| event | here |
|---|---|
| `snowplow_ecommerce_action` | its `type`, of each `product` of `contexts`; `list_view` is one event of the list |
| enhanced e-commerce of Google, as of its plugin | its `action`, for each `productFieldObject` |
| other self-describing events | `event_name`, of the product entities, or of an id in the event (`sku`, `article_id`) |
| `transaction_item` | a purchase of `ti_sku`; `transaction` is the same order once more and left out |
| structured (`se_action`) | `se_action` of `se_label` with `se_value`, unless named: `--map item=se_property` |
| `page_view` | left out, unless a person names what is the item of a page: `--map item=page_urlpath` |
| `page_ping` | left out |

Who is `user_id`, else `domain_userid` (`network_userid`), the guest that a user was. Of the times `true_tstamp` is what
an app said, `derived_tstamp` corrected for wrong clocks, `collector_tstamp` of the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from replay.sources.formats.known import Happening, Record, id_in
from replay.sources.ids import is_missing
from replay.sources.raw import BadRow, LeftOut
from replay.sources.reading import Begin, bare_rows

__all__ = ["Snowplow"]

NAMES = re.split(
    " ",
    "app_id platform etl_tstamp collector_tstamp dvce_created_tstamp event event_id txn_id name_tracker v_tracker "
    "v_collector v_etl user_id user_ipaddress user_fingerprint domain_userid domain_sessionidx network_userid "
    "geo_country geo_region geo_city geo_zipcode geo_latitude geo_longitude geo_region_name ip_isp ip_organization "
    "ip_domain ip_netspeed page_url page_title page_referrer page_urlscheme page_urlhost page_urlport page_urlpath "
    "page_urlquery page_urlfragment refr_urlscheme refr_urlhost refr_urlport refr_urlpath refr_urlquery "
    "refr_urlfragment refr_medium refr_source refr_term mkt_medium mkt_source mkt_term mkt_content mkt_campaign "
    "contexts se_category se_action se_label se_property se_value unstruct_event tr_orderid tr_affiliation tr_total "
    "tr_tax tr_shipping tr_city tr_state tr_country ti_orderid ti_sku ti_name ti_category ti_price ti_quantity "
    "pp_xoffset_min pp_xoffset_max pp_yoffset_min pp_yoffset_max useragent br_name br_family br_version br_type "
    "br_renderengine br_lang br_features_pdf br_features_flash br_features_java br_features_director "
    "br_features_quicktime br_features_realplayer br_features_windowsmedia br_features_gears br_features_silverlight "
    "br_cookies br_colordepth br_viewwidth br_viewheight os_name os_family os_manufacturer os_timezone dvce_type "
    "dvce_ismobile dvce_screenwidth dvce_screenheight doc_charset doc_width doc_height tr_currency tr_total_base "
    "tr_tax_base tr_shipping_base ti_currency ti_price_base base_currency geo_timezone mkt_clickid mkt_network "
    "etl_tags dvce_sent_tstamp refr_domain_userid refr_device_tstamp derived_contexts domain_sessionid derived_tstamp "
    "event_vendor event_name event_format event_version event_fingerprint true_tstamp",
)
EVENTS = {"page_view", "page_ping", "struct", "unstruct", "transaction", "transaction_item", "ad_impression"}
PRODUCTS = {"product", "productFieldObject", "impressionFieldObject"}
ACTIONS = {"detail": "product_detail", "add": "cart_add", "remove": "cart_remove", "checkout": "checkout_step"}
"""Words of Google's enhanced e-commerce that say too little by themselves."""


class Entity(NamedTuple):
    """A self-describing object: the name of its schema, and what it holds."""

    name: str
    data: Record


class Snowplow:
    """Enriched events as TSV."""

    name = "snowplow"
    told = "Snowplow's enriched events, TSV"

    def is_here(self, begin: Begin) -> bool:
        """Whether the first line has the fields in their places, or their names."""
        fields = begin.line.split("\t")
        return len(fields) == len(NAMES) and (fields[5] in EVENTS or fields[:3] == NAMES[:3])

    def records(self, path: Path) -> Iterator[tuple[int, Record] | BadRow]:
        """The fields of each line by name."""
        for row in bare_rows(path, len(NAMES)):
            if isinstance(row, BadRow):
                yield BadRow(row.reason, str(row), f"{path} {row.place}")
            elif row[1][:3] != NAMES[:3]:
                yield row[0], dict(zip(NAMES, row[1], strict=True))

    def happening(self, record: Record) -> Happening | LeftOut:
        """What an event tells. Raises BadRow."""
        user, guest = record["user_id"], record["domain_userid"] or record["network_userid"]
        user = guest if is_missing(user) else user
        session = record["domain_sessionid"] or f"{record['domain_userid']}.{record['domain_sessionidx']}".strip(".")
        told = Happening(
            record["event_name"] or record["event"], user, guest,
            record["true_tstamp"] or record["derived_tstamp"] or record["collector_tstamp"],
            event_id=record["event_id"], session=session, order=record["ti_orderid"],
            nobody="without a user (anonymous tracking)",
        )  # fmt: skip
        kind = record["event"]
        if kind in ("page_ping", "transaction"):
            return LeftOut(kind)
        if kind == "page_view":
            return told._replace(word=kind, is_page=True)
        if kind == "transaction_item":
            bought = {"id": record["ti_sku"], "price": record["ti_price"], "quantity": record["ti_quantity"]}
            return told._replace(word=kind, products=[bought] if record["ti_sku"] else [])
        entities = _entities(record["contexts"], "contexts")
        products = [entity.data for entity in entities if entity.name in PRODUCTS]
        if kind == "struct":
            about = {"id": record["se_label"], "value": record["se_value"]}
            return told._replace(word=record["se_action"], products=products or ([about] if about["id"] else []))
        return _described(told, _entities(record["unstruct_event"], "unstruct_event"), entities, products)


def _described(told: Happening, events: list[Entity], entities: list[Entity], products: list[Record]) -> Happening:
    """What a self-describing event tells with its entities."""
    name, data = events[0] if events else Entity(str(told.word), {})
    if name == "snowplow_ecommerce_action":
        orders = [one.data.get("transaction_id") for one in entities if one.name in ("transaction", "refund")]
        return told._replace(word=data.get("type"), products=products, order=next(iter(orders), None))
    if name == "action" and "action" in data:
        word = ACTIONS.get(str(data["action"]), data["action"])
        return told._replace(word=word, products=products, order=data.get("id"))
    others = [one for one in (data, *(entity.data for entity in entities)) if id_in(one) is not None]
    return told._replace(word=name, products=products or others[:1])


def _entities(text: str, where: str) -> list[Entity]:
    """The objects of a field: `{"schema": ..., "data": [{"schema": "iglu:vendor/name/...", "data": {...}}]}`.

    Raises
        BadRow: it is no JSON of that shape.
    """
    if not text:
        return []
    try:
        held = orjson.loads(text)["data"]
        each: list[Any] = held if isinstance(held, list) else [held]
        return [Entity(one["schema"].split("/")[1], dict(one["data"])) for one in each]
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadRow(where, f"{where} is no self-describing JSON ({error}): {text:.60}") from error
