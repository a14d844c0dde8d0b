"""Print every recommendation as it is made: python examples/consumer.py [broker]"""

import sys

from headwater import Client

broker = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"

with Client(broker) as client, client.recommendations() as recommendations:
    for answer in recommendations:
        if answer.error:
            print(f"{answer.user_id}: refused ({answer.error.code}) {answer.error.message}")
            continue
        names = ", ".join(item.item_id for item in answer.items)
        print(
            f"{answer.user_id}: {names} (model {answer.receipt.model_version}, {answer.receipt.fallback or 'personal'})"
        )
