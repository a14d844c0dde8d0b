"""Words of other systems for what people do, and the types of event that mean the same.

Before: names as people and other systems write them. After: the gateway, for calls of trackers, and `replay`, for
files: what comes live and what is replayed have the same types. What these mean says `headwater.signals`.
"""

from __future__ import annotations

import re

__all__ = ["OURS", "ours_of"]

OURS = {
    "view": "Product Viewed, Viewed Product, Product View, view_item, Item Viewed, Content Viewed, product_detail",
    "click": "Product Clicked, Clicked Product, Item Clicked, select_item, list_click, Product Click",
    "add_to_cart": "Product Added, Added Product, Added to Cart, cart_add, "
    "Wishlist Product Added to Cart, add to basket",
    "remove_from_cart": "Product Removed, Removed Product, Removed from Cart, cart_remove, remove from basket",
    "begin_checkout": "Checkout Started, Started Checkout, Initiate Checkout",
    "purchase": "Order Completed, Completed Order, transaction, transaction_item, Product Purchased",
    "refund": "Order Refunded, Order Cancelled",
    "wishlist": "Product Added to Wishlist, Added to Wishlist, add_to_wishlist",
    "remove_from_wishlist": "Product Removed from Wishlist, Removed from Wishlist",
    "share": "Product Shared, forward",
    "review": "Product Reviewed",
    "search": "Products Searched",
    "impression": "Product List Viewed, Viewed Product Category, Product List Filtered, Product Impression, "
    "view_item_list, list_view, Product List View",
    "": "Cart Viewed, view_cart, Cart Shared, Checkout Step Viewed, Checkout Step Completed, checkout_step, "
    "Payment Info Entered, add_payment_info, add_shipping_info, Order Updated, Promotion Viewed, view_promotion, "
    "promo_view, Promotion Clicked, select_promotion, promo_click, trns_error, session_start, first_visit, first_open, "
    "user_engagement, scroll, page_ping",
}
"""Our type -> words of other systems that mean it: e-commerce events of Segment and RudderStack (also of its first
edition), Google Analytics 4, Snowplow, and how people write them. Compared without case and style. Those of "" say
nothing new of their products: no events are made of them."""


_STYLE = re.compile(r"[\W_]+")
_OURS = {
    _STYLE.sub("", word).lower(): kind for kind, words in OURS.items() for word in (kind, *words.split(",")) if word
}


def ours_of(word: str) -> str | None:
    """Our type that a word means; "" where it says nothing new of its products, None where it is none of the table.

    >>> ours_of("Product Added"), ours_of("ADD_TO_CART"), ours_of("Cart Viewed"), ours_of("Song Played")
    ('add_to_cart', 'add_to_cart', '', None)
    """
    return _OURS.get(_STYLE.sub("", word).lower())
