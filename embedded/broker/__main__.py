"""`python -m embedded.broker`: a Kafka-protocol broker in one process, for one machine.

Knows nothing of Headwater. Not for production: there is no replica, no fsync, no authentication; use Apache Kafka
there.
"""

import argparse
import asyncio
import resource
import signal
from pathlib import Path

from embedded.broker.server import Server
from embedded.handlers import BrokerOptions


def _options(arguments: list[str] | None) -> BrokerOptions:
    parser = argparse.ArgumentParser(
        prog="python -m embedded.broker", description="A Kafka-protocol broker for one machine; not for production."
    )
    defaults = BrokerOptions(Path("."))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument(
        "--host", default=defaults.host, help="address to listen on (default: %(default)s, this machine only)"
    )
    parser.add_argument("--port", type=int, default=9092, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--advertised-host", help="address that clients are told (default: --host)")
    parser.add_argument("--advertised-port", type=int, default=0, help="port that clients are told (default: --port)")
    parser.add_argument("--num-partitions", type=int, default=defaults.num_partitions, help="of topics created by use")
    parser.add_argument("--no-auto-create-topics", dest="auto_create_topics", action="store_false")
    parser.add_argument("--initial-rebalance-delay-ms", type=int, default=defaults.initial_rebalance_delay_ms)
    parser.add_argument("--min-session-timeout-ms", type=int, default=defaults.min_session_timeout_ms)
    parser.add_argument(
        "--cleanup-interval-s", type=float, default=defaults.cleanup_interval_s, help="of retention and compaction"
    )
    options = BrokerOptions(**vars(parser.parse_args(arguments)))
    if options.host in ("0.0.0.0", "::") and options.advertised_host is None:
        parser.error(f"--host {options.host} is no address that a client can connect to: add --advertised-host")
    return options


async def _serve(options: BrokerOptions) -> None:
    server = Server(options)
    port = await server.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(
        f"embedded broker ready on {options.host}:{port}, data in {options.data_dir}; "
        "for one machine, not for production",
        flush=True,
    )
    waiting = loop.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([waiting, *server.jobs], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # housekeeping ends only by failing: then the broker ends too
    finally:
        await server.stop()


def main(arguments: list[str] | None = None) -> None:
    """Runs the broker until a signal."""
    options = _options(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(options))
    else:
        uvloop.run(_serve(options))


if __name__ == "__main__":
    main()
