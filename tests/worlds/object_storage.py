"""Object storage for tests: moto's S3 server behind a switchboard that is away, denies, cuts or loses as it is told.

The server speaks S3's protocol over a socket; nothing in the client is replaced. A test that asks for `bucket` has one
of its own, named by a URL, and the environment that a worker needs to get there.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

__all__ = ["Bucket", "SwitchedServer", "bucket", "object_storage"]

Environ = dict[str, Any]
Start = Callable[..., Any]

SECRET = "wJalrXUtnFEMI-not-to-be-printed"


class SwitchedServer:
    """An S3 server over HTTP on loopback.

    `refuses` gets method and path of each request; what it returns is answered: None, the server's own answer; an HTTP
    status; or `cut`, the server's answer broken off in its middle. `asked` are all requests.
    """

    def __init__(self) -> None:
        from moto.server import (  # type: ignore[attr-defined]  # as its manual has it
            DomainDispatcherApplication,
            create_backend_app,
        )
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, type: str, message: str, *args: Any) -> None:
                pass

        self._app = DomainDispatcherApplication(create_backend_app)
        self.refuses: Callable[[str, str], int | str | None] = lambda *_: None
        self.asked: list[tuple[str, str]] = []
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append((method, path))
        refused = self.refuses(method, path)
        if isinstance(refused, int):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = {403: "AccessDenied", 404: "NoSuchKey"}.get(refused, "SlowDown")
            body = f"<Error><Code>{code}</Code><Message>as told by the test</Message></Error>".encode()
            start_response(f"{refused} refused", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
            return [body]
        answer = self._app(environ, start_response)
        return self._cut(answer) if refused == "cut" else answer

    @staticmethod
    def _cut(answer: Iterable[bytes]) -> Iterator[bytes]:
        whole = b"".join(answer)
        yield whole[: len(whole) // 2]
        raise ConnectionAbortedError("the test cuts the connection")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Bucket:
    """A bucket of one test: its URL, its server's switches, and its objects as they lie."""

    def __init__(self, server: SwitchedServer, name: str) -> None:
        from moto.s3.models import s3_backends

        self.server = server
        self.name = name
        self.url = f"s3://{name}/models"
        self._backend = s3_backends["123456789012"]["aws"]
        self._backend.create_bucket(name, "us-east-1")

    @property
    def objects(self) -> dict[str, bytes]:
        """By key, without `models/`."""
        keys = self._backend.buckets[self.name].keys
        return {key.removeprefix("models/"): keys[key].value for key in keys}

    def put(self, key: str, value: bytes) -> None:
        self._backend.put_object(self.name, f"models/{key}", value)

    def delete(self, key: str) -> None:
        self._backend.delete_object(self.name, f"models/{key}")

    def away(self) -> None:
        """From now on nobody gets an answer that helps."""
        self.server.refuses = lambda *_: 503

    def back(self) -> None:
        self.server.refuses = lambda *_: None


@pytest.fixture(scope="session")
def object_storage() -> Iterator[SwitchedServer]:
    """One server for all tests of a job."""
    made = SwitchedServer()
    yield made
    made.close()


@pytest.fixture
def bucket(object_storage: SwitchedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket, and an environment that leads there."""
    for name, value in {
        "AWS_ENDPOINT_URL": object_storage.url,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    made = Bucket(object_storage, f"b{uuid.uuid4().hex[:12]}")
    object_storage.asked.clear()
    yield made
    made.back()
