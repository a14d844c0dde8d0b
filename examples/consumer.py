"""Print every recommendation as it is made: python examples/consumer.py [BROKER]"""

import argparse

from headwater import Client, HeadwaterError

call = argparse.ArgumentParser(description=__doc__)
call.add_argument("broker", nargs="?", default="127.0.0.1:9092", help="host:port of Kafka; default: %(default)s")

try:
    with Client(call.parse_args().broker) as client, client.recommendations() as recommendations:
        for answer in recommendations:
            if answer.error:
                print(f"{answer.user_id}: refused ({answer.error.code}) {answer.error.message}")
                continue
            names = ", ".join(item.item_id for item in answer.items)
            knows = f"model {answer.receipt.model_version}, {answer.receipt.fallback or 'personal'}"
            print(f"{answer.user_id}: {names} ({knows})")
except HeadwaterError as error:
    call.error(str(error))  # how it is called, what is wrong, exit code 2
except KeyboardInterrupt:
    pass
