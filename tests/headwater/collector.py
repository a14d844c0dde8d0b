"""A collector of OpenTelemetry's spans: OTLP over HTTP on loopback, as an exporter finds it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class TakenSpan(NamedTuple):
    """A span that was exported; ids in hexadecimal digits, of links the trace and the span."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What was taken, in the order of its coming. `status` is what exporters are answered."""

    url: str
    taken: list[TakenSpan] = field(default_factory=list)
    status: int = 200
    asked: int = 0

    def named(self, name: str, trace: str | None = None) -> list[TakenSpan]:
        return [one for one in list(self.taken) if one.name == name and trace in (None, one.trace)]

    def environment(self, **more: str) -> dict[str, str]:
        """Of a process that exports to it, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50", **more}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.asked += 1
            if collector.status == 200:
                collector.taken += spans_in(body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def spans_in(body: bytes) -> list[TakenSpan]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found = []
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _values(of_resource.resource.attributes)["service.name"]
        for of_scope in of_resource.scope_spans:
            for one in of_scope.spans:
                links = tuple((link.trace_id.hex(), link.span_id.hex()) for link in one.links)
                ids = one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()
                found.append(TakenSpan(service, one.name, one.kind, *ids, links, _values(one.attributes)))
    return found


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
