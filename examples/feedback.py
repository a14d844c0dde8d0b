"""A guest's likes, a login, a dismissal and a list that was shown: python examples/feedback.py [BROKER]"""

import argparse
import uuid

from headwater import Client, HeadwaterError

call = argparse.ArgumentParser(description=__doc__)
call.add_argument("broker", nargs="?", default="127.0.0.1:9092", help="host:port of Kafka; default: %(default)s")

try:
    with Client(call.parse_args().broker, source="examples") as client:
        visitor, guest = (f"{word}-{uuid.uuid4().hex[:8]}" for word in ("visitor", "guest"))
        client.track(guest, "film-1", "like")
        client.track(guest, "film-1", "unlike")  # as if neither had been
        known = [client.track(guest, "film-3", "like"), client.identify(visitor, was=guest)]  # she logs in
        answer = client.recommend(visitor, k=5, deadline_s=10, after=known)  # knows what the guest likes
        shown = [item.item_id for item in answer.items] or ["film-2"]
        print("before:", *shown)
        # the page had room for three; the engine itself takes all five for shown, unless serving.exposures is false
        client.track(visitor, type="impression", items=shown[:3], request_id=answer.request_id)
        dismissed = client.track(visitor, shown[0], "dismiss", request_id=answer.request_id)
        after = client.recommend(visitor, k=5, deadline_s=10, after=dismissed, explain=True)  # knows of the dismissal
        for item in after.items:
            print(item.rank, item.item_id, *item.reasons)
except HeadwaterError as error:
    call.error(str(error))  # how it is called, what is wrong, exit code 2
