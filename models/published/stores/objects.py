"""Bundles in object storage, through obstore: the one file that knows it.

Before: a URL of the settings. After: whoever opens bundles. A bundle is the objects below its name; the last one to be
written is metadata.json, and what lacks that is no bundle. A file of more than `PIECE_BYTES` is kept in pieces, each
written by one request, whole or not at all: an upload that ends goes on behind the last piece that was taken, and
leaves nothing half written for which somebody pays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from headwater.errors import SettingsError, Unavailable
from models.published.bundle import Bundle
from models.published.layout import (
    METADATA,
    Chunks,
    bundle_name,
    named_bundle,
    only_name,
    pack_bundle,
    pack_metadata,
    parse_name,
    piece_names,
    unpack_bundle,
)
from models.published.signing.trust import NO_TRUST, Trust

__all__ = ["ObjectFiles", "ObjectStore"]

PIECE_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
CONNECT_S, REQUEST_S = 3, 20
"""A request, with its piece, ends by then: at 0.4 MB a second or faster. Less than `operations.stall_s`, within which
whoever waits for it has to get on."""
RETRIES, RETRIED_S = 3, 10
"""Made by obstore within one request; whoever called tries again later."""

VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
}
"""By scheme: where credentials come from."""

ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"), "az": ("AZURE_STORAGE_ENDPOINT",)}
"""The address of a server other than the usual one."""

NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist")
NOT_LET_IN = re.compile(
    r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|AuthenticationFailed|status code: 40[13]"
)
"""obstore has classes for these, and raises them for single objects, but not where it lists."""

PANIC = "PanicException"
"""What obstore makes of a bug of its own, beside the tree of exceptions: it must end no worker."""


class ObjectFiles:
    """Objects below a URL, as files.

    Parameters
        url: `s3://BUCKET/PREFIX`, or another of the settings' schemes.

    Raises
        SettingsError: here, obstore is not installed, or refuses the URL or what the environment says.
        Unavailable: from every method, the store is away, or does not let us do this.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        scheme = urlsplit(url).scheme if urlsplit(url).scheme in VARIABLES else "az"
        self._variables = VARIABLES[scheme]
        for name in self._variables.split(", "):
            if os.environ.get(name, "").strip() != os.environ.get(name, ""):
                raise SettingsError(f"{name} in the environment begins or ends in white space: take it away")
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError as error:
            raise SettingsError(
                f"{url}: object storage takes the package obstore ({error}). "
                "Install it: pip install 'headwater-engine[cloud]'"
            ) from error
        self._obstore = obstore
        self._errors: tuple[type[Exception], ...] = (BaseError, OSError)  # a missing object is a FileNotFoundError
        options: Any = {
            "connect_timeout": f"{CONNECT_S}s",
            "timeout": f"{REQUEST_S}s",
            **_plain_http(scheme),
        }
        retries: Any = {"max_retries": RETRIES, "retry_timeout": np.timedelta64(RETRIED_S, "s").item()}
        try:
            self._store = from_url(url, client_options=options, retry_config=retries)
        except (BaseError, ValueError) as error:
            raise SettingsError(
                f"{url} cannot be used ({_short(error)}): check the URL and {self._variables} in the environment"
            ) from error

    @property
    def address(self) -> str:
        """For messages."""
        return self._url

    def put(self, path: str, data: bytes) -> None:
        """Write an object, whole or not at all."""
        with self._asked(f"{path} could not be written"):
            self._obstore.put(self._store, path, data, use_multipart=False)

    def get(self, path: str) -> bytes:
        """An object. Raises FileNotFoundError."""
        with self._asked(f"{path} could not be read"):
            return bytes(self._obstore.get(self._store, path).bytes())

    def paths(self, prefix: str = "") -> list[str]:
        """Of all objects below a folder, or of all."""
        with self._asked("what is there could not be listed"):
            listed = self._obstore.list(self._store, prefix=prefix or None)
            return sorted(one["path"] for batch in listed for one in batch)

    def delete(self, paths: list[str]) -> None:
        """Remove these."""
        with self._asked(f"{len(paths)} objects could not be removed"):
            self._obstore.delete(self._store, paths)

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """The store's errors as ours. Raises Unavailable, and FileNotFoundError where an object is missing."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, self._errors) and type(error).__name__ != PANIC:
                raise
            text, said = str(error), _short(error)
            if NO_BUCKET.search(text):
                remedy = "there is no such bucket: make it, or correct `bundles` in the settings"
            elif isinstance(error, FileNotFoundError):
                raise FileNotFoundError(said) from None
            elif "169.254.169.254" in text:
                remedy = f"no credentials are given, and this machine has none of its own: set {self._variables}"
            elif NOT_LET_IN.search(text):
                remedy = f"we are not let in: check {self._variables}; to list, read, write and delete must be allowed"
            else:
                remedy = f"is it away? Check the network and {self._variables}"
            raise Unavailable(f"{self._url}: {what} ({said}): {remedy}.") from None


class ObjectStore(ObjectFiles):
    """See `BundleStore`. Parameters and errors are those of `ObjectFiles`."""

    def __init__(self, url: str, trust: Trust = NO_TRUST) -> None:
        super().__init__(url)
        self._trust = trust
        self._taken: tuple[str, set[str]] = ("", set())  # of the bundle that is being written, what was

    def write(self, bundle: Bundle) -> str:
        """Keep a bundle; its name."""
        name = bundle_name(bundle)
        there = self._files(name)
        if METADATA in there:
            return name
        self._taken = (name, self._taken[1] & there if self._taken[0] == name else set())
        contents = pack_bundle(bundle)
        pieces = {file: -(-packed.size // PIECE_BYTES) for file, packed in contents.items()}
        for file, parts in contents.items():
            for piece, data in zip(piece_names(file, pieces[file]), _cut(parts, pieces[file]), strict=True):
                self._put(name, piece, data)
        if lost := self._taken[1] - self._files(name):  # whoever else cleans up took it for torn
            raise Unavailable(
                f"{self._url}: somebody removed {name}/{min(lost)} while the bundle was written. Has another trainer "
                "this prefix, too? Give each its own."
            )
        self._put(
            name, METADATA, pack_metadata(bundle, contents, {f: n for f, n in pieces.items() if n > 1}, self._trust)
        )
        self._taken = ("", set())
        return name

    def _put(self, name: str, file: str, data: bytes) -> None:
        if file in self._taken[1]:
            return
        with self._asked(f"{name}/{file} could not be written"):
            self._obstore.put(self._store, f"{name}/{file}", data, use_multipart=False)
        self._taken[1].add(file)

    def _files(self, name: str) -> set[str]:
        """What there is of a bundle."""
        with self._asked(f"what is there of {name} could not be listed"):
            listed = self._obstore.list(self._store, prefix=f"{name}/")
            return {one["path"].removeprefix(f"{name}/") for batch in listed for one in batch}

    def read(self, name: str, heard: Callable[[], None] = lambda: None) -> Bundle:
        """A bundle, every checksum verified."""

        def chunks(file: str) -> Chunks:
            with self._asked(f"{name}/{file} could not be read"):
                found = self._obstore.get(self._store, f"{name}/{file}")
                for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                    heard()
                    yield memoryview(chunk)

        at = f"{self._url}/{only_name(name)}"
        return named_bundle(name, unpack_bundle(at, chunks, self._trust), at)

    def names(self) -> list[str]:
        """Of all bundles that are whole, the oldest version first."""
        return [name for name, files in self._listed() if METADATA in files]

    def remove(self, name: str) -> None:
        """Remove a bundle, if it is there: first what makes it one."""
        with self._asked(f"{name} could not be removed"):
            files = self._files(only_name(name))
            for some in (files & {METADATA}, files - {METADATA}):
                if some:
                    self._obstore.delete(self._store, [f"{name}/{file}" for file in sorted(some)])

    def clear_torn(self) -> None:
        """Remove what was not written to its end."""
        for name, files in self._listed():
            if METADATA not in files:
                self.remove(name)

    def _listed(self) -> list[tuple[str, set[str]]]:
        """Names of bundles, with the objects of each, the oldest version first."""
        found: dict[str, set[str]] = {}
        with self._asked("what is there could not be listed"):
            for batch in self._obstore.list(self._store):
                for one in batch:
                    name, _, file = one["path"].partition("/")
                    if parse_name(name):
                        found.setdefault(name, set()).add(file)
        return sorted(found.items(), key=lambda one: (parse_name(one[0]), one[0]))


def _plain_http(scheme: str) -> dict[str, bool]:
    """Whether TLS may be left out: where the environment says so. Raises SettingsError."""
    for name in ENDPOINTS.get(scheme, ()):
        value = os.environ.get(name, "")
        if value and not re.fullmatch(r"https?://[\w.\-\[\]:]+/?[\w.\-/]*", value, re.ASCII):
            raise SettingsError(f"{name} in the environment is no http:// or https:// address of a server: correct it")
        if value.startswith("http://"):
            return {"allow_http": True}
    return {}


def _cut(parts: Iterable[bytes | memoryview], pieces: int) -> Iterator[bytes]:
    """Parts, joined, in so many pieces."""
    if pieces == 1:
        yield b"".join(parts)
        return
    piece = bytearray()
    for part in parts:
        left = memoryview(part)
        while left:
            taken = left[: PIECE_BYTES - len(piece)]
            piece += taken
            left = left[len(taken) :]
            if len(piece) == PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)


def _short(error: BaseException) -> str:
    """What an error says, without the request and its signature."""
    text = str(error)
    code = re.search(r"<Code>(\w{1,60})</Code>(?:.*?<Message>([^<]{1,200})</Message>)?", text, re.DOTALL)
    if code:
        return f"{code[1]}: {code[2]}" if code[2] else code[1]
    return re.sub(r"\s*(?:<\?xml|<Error|\{).*", "", text.split("\n", 1)[0])[:300]
