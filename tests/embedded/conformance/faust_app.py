"""A Faust worker that copies one topic to another.

`python -m tests.embedded.conformance.faust_app ADDRESS IN OUT FOLDER`
"""

from __future__ import annotations

import sys
from typing import Any

import faust


def build(address: str, source: str, target: str, folder: str) -> Any:
    app = faust.App(
        f"copy-{source}",
        broker=f"kafka://{address}",
        store="memory://",
        datadir=folder,
        topic_disable_leader=True,
        key_serializer="raw",
        value_serializer="raw",
        broker_session_timeout=6,
        broker_heartbeat_interval=1,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    incoming, outgoing = app.topic(source), app.topic(target)

    @app.agent(incoming)
    async def copy(stream: Any) -> None:
        async for key, value in stream.items():
            await outgoing.send(key=key, value=value.upper())

    return app


if __name__ == "__main__":
    address, source, target, folder = sys.argv[1:]
    app = build(address, source, target, folder)
    faust.Worker(app, loglevel="warning").execute_from_commandline()
