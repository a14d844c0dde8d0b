"""Publish two films and track a visitor's clicks: python examples/producer.py [BROKER]"""

import argparse

from headwater import Client, HeadwaterError, Item

call = argparse.ArgumentParser(description=__doc__)
call.add_argument("broker", nargs="?", default="127.0.0.1:9092", help="host:port of Kafka; default: %(default)s")

try:
    with Client(call.parse_args().broker, source="examples") as client:
        client.put_items(
            [
                Item(item_id="film-1", title="Heat", categories=("Crime",), attributes={"year": 1995}),
                Item(item_id="film-2", title="Alien", categories=("Horror", "Sci-Fi"), attributes={"year": 1979}),
            ]
        )
        client.track("visitor-1", "film-1", "view")
        clicked = client.track("visitor-1", "film-2", "click", session_id="monday")
        partition, offset = clicked.result(timeout=10)
        print(f"events[{partition}]@{offset}")
        answer = client.recommend("visitor-1", k=5, after=clicked)  # knows of the click
        print([item.item_id for item in answer.items], answer.receipt.fallback or "personal")
except HeadwaterError as error:
    call.error(str(error))  # how it is called, what is wrong, exit code 2
