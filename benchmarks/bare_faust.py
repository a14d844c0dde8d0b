"""The least a Faust worker can do with records: count them. The floor of benchmarks/ingest.py.

`python -m benchmarks.bare_faust TOPIC GROUP TURN`: as Faust's manual says to do it, one agent that takes record after
record, with uvloop. After each TURN records it prints the processor seconds that it has used.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from typing import Any

import faust

from headwater.settings import load_settings


def main() -> None:
    """Count until killed."""
    topic, group, turn = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    app = faust.App(
        group,
        broker=f"kafka://{load_settings().kafka.bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        autodiscover=False,
        broker_commit_interval=1.0,
        loghandlers=[],
        datadir=tempfile.mkdtemp(),
    )

    async def count(stream: Any) -> None:
        counted = 0
        async for _ in stream:
            counted += 1
            if counted % turn == 0:
                print(time.process_time(), flush=True)

    app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"), name="count")(count)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(app.start())
    loop.run_forever()


if __name__ == "__main__":
    main()
