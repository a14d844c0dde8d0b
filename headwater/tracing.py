"""Traces of OpenTelemetry from an event to the answers that know of it, where somebody has asked for them.

Before: whatever has a span already, an app's or a caller's over HTTP. After: headers `traceparent` and `tracestate` of
Kafka records (W3C Trace Context), and whoever takes spans. What one thing causes is its child. Where several flow into
one (a record of many events, a round, a chunk of examples, a version of the weights) the first that is sampled is the
parent, so that its sampling holds, and the others are links; in the trace of each of these stands a span that links to
the one they flowed into, so that every trace can be followed to its end.

Nothing is imported, sent or kept unless the process has a provider: workers and commands make one in `begin` when the
usual OTEL_* variables ask for it, apps bring theirs. What a header says is believed as far as it is a trace context;
anything else is none. docs/operations.md, docs/decisions/0043-one-trace.md
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, SpanContext

__all__ = [
    "TRACE_HEADERS",
    "Begun",
    "Causes",
    "WeightsTraces",
    "begin",
    "begun",
    "carried",
    "causes_of",
    "finish",
    "headers",
    "joined",
    "served",
    "span_of",
    "trace_id",
    "within",
]

TRACE_HEADERS = ("traceparent", "tracestate")

MOST_LINKS = 32
"""Of one span. What more flows into it is counted, in its attribute `headwater.unlinked`."""

MOST_STATE_CHARS = 512
"""Of `tracestate`; W3C asks for so much. A longer one is left out."""

MOST_VERSIONS = 64
"""Of the weights, whose spans are remembered: answers are made with the newest."""

FINISH_S = 2.0
"""What is left to export gets so long when a process ends; a collector that is away holds up nobody."""

_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})")
_PARENT_BYTES = 55
_MEMBER = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})=([!-+\--<>-~]{1,256})"
)
MOST_MEMBERS = 32

Pairs = Iterable[tuple[str, "bytes | None"]]
Headers = list[tuple[str, bytes]]
Answer = TypeVar("Answer")

log = logging.getLogger("headwater")


class _Provided(NamedTuple):
    """What makes spans: the API's module, who provides, and our tracer."""

    api: Any
    provider: Any
    tracer: Any


_own: _Provided | None = None  # made by `begin`
_theirs: _Provided | None = None  # of an app, as last seen


def _provided() -> _Provided | None:
    """None where nobody wants spans."""
    if _own is not None:
        return _own
    api = sys.modules.get("opentelemetry.trace")
    if api is None or not hasattr(api, "get_tracer_provider"):  # being imported
        return None
    provider = api.get_tracer_provider()
    if isinstance(provider, (api.ProxyTracerProvider, api.NoOpTracerProvider)):
        return None
    global _theirs
    if _theirs is None or _theirs.provider is not provider:
        _theirs = _Provided(api, provider, provider.get_tracer("headwater"))
    return _theirs


def begin(service: str) -> None:
    """Export spans from now on, if the OTEL_* variables of this process ask for it. To be called by a program, once.

    Parameters
        service: `service.name`, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES says another.
    """
    global _own
    wanted = _exporters(os.environ)
    if not wanted or _provided() is not None:  # opentelemetry-instrument has made one
        return
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("OTEL_* asks for traces, which need the extra: pip install 'headwater-engine[otel]'")
        return
    try:
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for name in wanted:
            provider.add_span_processor(BatchSpanProcessor(_made(name)))
    except Exception as error:  # noqa: BLE001 - whatever an exporter makes of its variables: the work goes on without
        log.warning("no traces: what OTEL_* asks for cannot be had", extra={"error": repr(error)})
        return
    _own = _Provided(trace, provider, provider.get_tracer("headwater"))


def _exporters(environ: Mapping[str, str]) -> list[str]:
    """What OTEL_* asks for. Its own default, OTLP to this machine, has to be asked for by an address or by name."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = [one for given in environ.get("OTEL_TRACES_EXPORTER", "").split(",") if (one := given.strip())]
    if not named and any(environ.get(f"OTEL_EXPORTER_OTLP_{which}ENDPOINT") for which in ("", "TRACES_")):
        named = ["otlp"]
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    return [otlp if one == "otlp" else one for one in named if one != "none"]


def _made(name: str) -> Any:
    """An exporter by the name under which its distribution is found, as `opentelemetry-instrument` finds it."""
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group="opentelemetry_traces_exporter", name=name)), None)
    if found is None:
        raise LookupError(f"no exporter {name!r} is installed")
    return found.load()()


def finish() -> None:
    """Export what is left, within `FINISH_S`. No span is made after it."""
    global _own
    found = _provided()
    _own = None
    if found is not None and hasattr(found.provider, "shutdown"):
        last = threading.Thread(target=found.provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(FINISH_S)


class Causes:
    """What flows into one thing, as spans that others have told of. Each counts once; see `MOST_LINKS`."""

    def __init__(self) -> None:
        self._sampled: dict[tuple[int, int], SpanContext] = {}
        self._unsampled: SpanContext | None = None
        self._more = 0

    def add(self, told: Pairs | None) -> None:
        """What the headers of a record, or of a request, say."""
        if (found := _provided()) is not None and (context := _context(found.api, told)) is not None:
            self._take(context)

    def add_current(self) -> None:
        """What is under way here."""
        if (found := _provided()) is not None:
            context = found.api.get_current_span().get_span_context()
            if context.is_valid:
                self._take(context)

    def _take(self, context: SpanContext) -> None:
        key = context.trace_id, context.span_id
        if not context.trace_flags.sampled:
            self._unsampled = self._unsampled or context
        elif len(self._sampled) <= MOST_LINKS:  # one of them is the parent
            self._sampled.setdefault(key, context)
        elif key not in self._sampled:
            self._more += 1

    def taken(self) -> Causes | None:
        """These, if there are any; from now on there are none."""
        if self.parent is None:
            return None
        before = Causes()
        before.__dict__, self.__dict__ = self.__dict__, before.__dict__
        return before

    def clear(self) -> None:
        """There are none any more."""
        self.taken()

    @property
    def parent(self) -> SpanContext | None:
        """The first that is sampled, else one that is not."""
        return next(iter(self._sampled.values())) if self._sampled else self._unsampled

    @property
    def linked(self) -> list[SpanContext]:
        """The others, as far as they are sampled."""
        return list(self._sampled.values())[1:]

    @property
    def more(self) -> int:
        """How many are left out."""
        return self._more


def causes_of(records: Iterable[Any]) -> Causes | None:
    """Of records as a Kafka client gives them; None where nobody wants spans."""
    if _provided() is None:
        return None
    causes = Causes()
    for record in records:
        causes.add(record.headers)
    return causes


class Begun:
    """A span that is not over, and what a record tells to go on from it: nothing where nobody wants spans."""

    __slots__ = ("headers", "spans")

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans
        self.headers = tuple(_headers_of(spans[0].get_span_context())) if spans else ()

    def ends_with(self, future: Future[Any]) -> None:
        """It is over when a future is."""
        if self.spans:
            future.add_done_callback(lambda done: self.end(done.exception()))

    def end(self, error: BaseException | None = None) -> None:
        """It is over. Of an error its kind is told: what it says may name a user."""
        for span in self.spans:
            if error is not None:
                span.set_attribute("error.type", type(error).__name__)
            span.end()


_NOT_TRACED = Begun([])
_NOTHING = contextlib.nullcontext()


def begun(name: str, causes: Causes | None = None, kind: str = "internal", **attributes: str | int) -> Begun:
    """Begin a span.

    Parameters
        name: what is done with what.
        causes: where there are none, what is under way here is its parent.
        kind: `internal`, `client`, `server`, `producer` or `consumer`.
        attributes: each is told as `headwater.<name>`. No ids of users.
    """
    found = _provided()
    if found is None:
        return _NOT_TRACED
    api, _, tracer = found
    told = {f"headwater.{key}": value for key, value in attributes.items()}
    others: list[SpanContext] = []
    under = None
    if causes is not None:
        others, under = causes.linked, causes.parent
        if causes.more:
            told["headwater.unlinked"] = causes.more
    options = {"kind": api.SpanKind[kind.upper()]}
    within = None if under is None else _within(api, under)
    span = tracer.start_span(name, within, attributes=told, links=[api.Link(one) for one in others], **options)
    onward = [api.Link(span.get_span_context())]
    return Begun([span, *(tracer.start_span(name, _within(api, one), links=onward, **options) for one in others)])


def span_of(told: Pairs, name: str, started_ms: int, causes: Causes | None = None, **attributes: str | int) -> Headers:
    """A span that is over: it began at `started_ms`, epoch ms, and its parent is who `told` of itself. It links to
    `causes`. What it tells.
    """
    found = _provided()
    if found is None:
        return []
    api, _, tracer = found
    parent, now_ns = _context(api, told), time.time_ns()
    span = tracer.start_span(
        name,
        api.set_span_in_context(api.INVALID_SPAN) if parent is None else _within(api, parent),
        kind=api.SpanKind.SERVER,
        attributes={f"headwater.{key}": value for key, value in attributes.items()},
        links=[] if causes is None or causes.parent is None else [api.Link(causes.parent)],
        start_time=min(max(started_ms, 0) * 1_000_000, now_ns),
    )
    span.end(now_ns)
    return _headers_of(span.get_span_context())


def joined(
    name: str, causes: Causes | None = None, kind: str = "consumer", *, of: int = 1, into: Causes | None = None,
    **attributes: str | int,
) -> AbstractContextManager[None]:  # fmt: skip
    """A span around a block, which is what is under way there.

    Parameters
        name, causes, kind, attributes: as of `begun`.
        of: with how many things it deals; with none there is no span.
        into: gets the span as a cause.
    """
    found = _provided() if of else None
    return _NOTHING if found is None else _around(found, begun(name, causes, kind, count=of, **attributes), into)


@contextlib.contextmanager
def _around(found: _Provided, begins: Begun, into: Causes | None) -> Iterator[None]:
    if into is not None:
        into.add(begins.headers)
    failure: Exception | None = None
    try:
        with found.api.use_span(begins.spans[0], record_exception=False, set_status_on_exception=False):
            yield
    except Exception as error:
        failure = error
        raise
    finally:
        begins.end(failure)


def within(told: Pairs) -> AbstractContextManager[Any]:
    """A block in which what was begun elsewhere, and `told` of itself, is under way."""
    found = _provided()
    context = None if found is None else _context(found.api, told)
    if found is None or context is None:
        return _NOTHING
    around: AbstractContextManager[Any] = found.api.use_span(found.api.NonRecordingSpan(context))
    return around


def headers() -> Headers:
    """What a record tells of what is under way here; nothing where that is nothing."""
    found = _provided()
    return [] if found is None else _headers_of(found.api.get_current_span().get_span_context())


def carried(call: Callable[[], Answer]) -> Callable[[], Answer]:
    """A call for another thread, where the same is under way."""
    return call if _provided() is None else partial(copy_context().run, call)


class _HttpRequest(Protocol):
    @property
    def headers(self) -> Mapping[str, str]: ...


def served(name: str, endpoint: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """An endpoint of HTTP with a span for each of its requests, whose caller may have told of one. The endpoint itself
    where nobody wants spans."""
    if _provided() is None:
        return endpoint

    async def traced(request: _HttpRequest) -> Any:
        causes = Causes()
        causes.add([(one, request.headers.get(one, "").encode("latin-1", "replace")) for one in TRACE_HEADERS])
        with joined(name, causes, "server"):
            found = await endpoint(request)
            if (now := _provided()) is not None:
                now.api.get_current_span().set_attribute("http.response.status_code", found.status_code)
            return found

    return traced


class WeightsTraces:
    """By version of the weights, who published them."""

    def __init__(self) -> None:
        self._known: dict[int, Causes] = {}

    def note(self, version: int, told: Pairs | None) -> None:
        """What a record that published a version says."""
        if _provided() is not None:
            self._known[version] = causes = Causes()
            causes.add(told)
            while len(self._known) > MOST_VERSIONS:
                del self._known[next(iter(self._known))]

    def of(self, version: int | None) -> Causes | None:
        """None where nobody told."""
        return None if version is None else self._known.get(version)


def trace_id(told: Pairs | None) -> str | None:
    """The id of the trace that headers name, in hexadecimal digits; for people, without any library."""
    found = _parent(told)
    return None if found is None else found[1].decode()


def _parent(told: Pairs | None) -> re.Match[bytes] | None:
    content = next((content for name, content in told or () if name == "traceparent"), None)
    if not isinstance(content, bytes):
        return None
    later = content[:2] != b"00" and content[_PARENT_BYTES : _PARENT_BYTES + 1] == b"-"  # may say more
    return _PARENT.fullmatch(content[:_PARENT_BYTES]) if later or len(content) == _PARENT_BYTES else None


def _context(api: Any, told: Pairs | None) -> SpanContext | None:
    pairs = list(told or ())
    found = _parent(pairs)
    if found is None:
        return None
    state = _state(next((content for name, content in pairs if name == "tracestate"), None))
    trace, span, flags = (int(one, 16) for one in found.groups())
    context: SpanContext = api.SpanContext(trace, span, True, api.TraceFlags(flags), api.TraceState(state))
    return context


def _state(content: bytes | None) -> list[tuple[str, str]]:
    """What vendors say beside; nothing where any of it is not as W3C has it, which the API's own reader would log."""
    if not isinstance(content, bytes) or len(content) > MOST_STATE_CHARS:
        return []
    members = [_MEMBER.fullmatch(one.strip(" \t")) for one in content.decode("ascii", "replace").split(",")]
    pairs = {one[1]: one[2] for one in members if one is not None}
    return list(pairs.items()) if len(pairs) == len(members) <= MOST_MEMBERS else []


def _within(api: Any, context: SpanContext) -> Any:
    return api.set_span_in_context(api.NonRecordingSpan(context))


def _headers_of(context: SpanContext) -> Headers:
    if not context.is_valid:
        return []
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 0xFF:02x}"
    state = context.trace_state.to_header() if context.trace_state else ""
    more = [("tracestate", state.encode())] if 0 < len(state) <= MOST_STATE_CHARS else []
    return [("traceparent", parent.encode()), *more]
