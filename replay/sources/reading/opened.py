"""The bytes and the text of a file: unzipped by its first bytes, decoded by its mark or by what it was said to be.

Before: a path. After: `delimited` and `objects` make rows of the text.
"""

from __future__ import annotations

import codecs
import importlib
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from headwater.errors import SourceError

__all__ = ["BROKEN", "Encoding", "encoding_of", "first_lines", "is_damaged", "kind_of", "opened", "start_of", "text_of"]

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without it
    LZMAError = zlib.error  # type: ignore[misc, assignment]

BROKEN = (OSError, EOFError, zlib.error, LZMAError, UnicodeError)
SAMPLE_BYTES = 1 << 18
"""Bytes that tell kind, encoding, delimiter and header."""

_ZIPPED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
_UNREADABLE = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it, or save the sheet as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV in UTF-8"),
    (b"Obj\x01", "Avro", "convert it to parquet or JSON Lines"),
    (b"ORC", "ORC", "convert it to parquet"),
    (b"ARROW1", "Arrow or Feather", "convert it to parquet"),
    (b"SQLite format 3", "a SQLite database", "export its table as CSV"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with BOM"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_DAMAGED = re.compile("[\ud800-\udfff]")
_LETTER = re.compile(rb"[A-Za-z][\x80-\xfd](?:[A-Za-z .,;|\t\r\n\"]|$)|(?:^|[\s,;|\"])[\xc0-\xfd][A-Za-z]")
"""One byte beyond ASCII beside letters, as Latin-1 and cp1252 write é; in UTF-8 such a letter has two bytes."""


class Encoding(NamedTuple):
    """How text is decoded: the codec, its name for people, and the bytes of the mark before the text."""

    codec: str
    told: str
    mark: int = 0


@contextmanager
def opened(path: Path, what: str) -> Iterator[IO[bytes]]:
    """The unzipped bytes of a file. Raises SourceError, also for damage that is met later."""
    try:
        with _unzipped(path) as file:
            yield file
    except BROKEN as error:
        raise SourceError(f"{path} cannot be read as {what} ({error})") from error


def start_of(path: Path, size: int = SAMPLE_BYTES) -> bytes:
    """The first bytes of a file, unzipped, as far as they can be read."""
    read = b""
    try:
        with _unzipped(path) as file:
            while len(read) < size:
                more = cast(Any, file).read1(size - len(read))  # `read` would lose what stands before a damage
                if not more:
                    break
                read += more
    except BROKEN:
        pass
    return read


def kind_of(path: Path, start: bytes) -> str:
    """`parquet`, `json` or `text`, by what a file holds. Raises SourceError for what is none of them.

    The name counts where the content does not tell: JSON Lines whose first line is broken, parquet that has no begin.
    """
    for magic, what, remedy in _UNREADABLE:
        if start.startswith(magic):
            raise SourceError(f"{path} is {what}, which is not read: {remedy}")
    endings = {ending.lower() for ending in path.suffixes[-2:]}
    if start.startswith(b"PAR1") or ".parquet" in endings:
        return "parquet"
    text = start[:4096].replace(b"\0", b"")  # as good as decoded, for the first letter in UTF-16
    first = text.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1]
    if first == b"<":
        raise SourceError(f"{path} is XML or HTML, an unknown kind of file {path.suffix!r}: convert it to CSV")
    return "json" if first in (b"{", b"[") or endings & {".json", ".jsonl", ".ndjson"} else "text"


def encoding_of(path: Path, start: bytes, given: str | None) -> Encoding:
    """How a file's text is decoded: as it was said to be, else by its mark, else UTF-8.

    Raises
        SourceError: there is no such encoding, or the file is clearly in an older one that has to be named.
    """
    mark = next(((codec, told, len(bom)) for bom, codec, told in _MARKS if start.startswith(bom)), None)
    if given is not None:
        try:
            name = codecs.lookup(given).name
        except LookupError as error:
            raise SourceError(
                f"--encoding {given!r} is unknown: utf-8, utf-16, latin-1, cp1252, gb18030 ..."
            ) from error
        if mark is None or not name.startswith(("utf-8", "utf-16", "utf-32", "utf_8")):
            return Encoding(name.removesuffix("-sig"), given)
    if mark is not None:
        return Encoding(*mark)
    sample = start[:2000]
    if sample.count(0) > len(sample) // 4:
        little = sample[1::2].count(0) > sample[::2].count(0)
        return Encoding("utf-16-le" if little else "utf-16-be", "UTF-16 without BOM")
    _refuse_older(path, start)
    return Encoding("utf-8", "UTF-8")


def first_lines(start: bytes, encoding: Encoding, most: int) -> list[str]:
    """The first lines of a text, without their ends, as `text_of` parts them."""
    text = start[encoding.mark :].decode(encoding.codec, "replace")
    return [line.rstrip("\r\n") for line in islice(io.StringIO(text, newline=""), most)]


def is_damaged(line: str) -> bool:
    """Whether a line of text has bytes that its encoding does not know."""
    return not line.isascii() and _DAMAGED.search(line) is not None


def text_of(file: IO[bytes], encoding: Encoding) -> io.TextIOWrapper:
    """The text behind the mark; bytes that cannot be decoded stay in their line, as `is_damaged` finds them."""
    file.read(encoding.mark)
    wide = encoding.codec.startswith(("utf-16", "utf-32"))
    return io.TextIOWrapper(
        cast(Any, file), encoding=encoding.codec, errors="strict" if wide else "surrogateescape", newline=""
    )


def _refuse_older(path: Path, start: bytes) -> None:
    """A sample without one good letter beyond ASCII, and with letters of one byte, is Latin-1 or its like."""
    lines = start.split(b"\n")
    for number, line in enumerate(lines if len(start) < SAMPLE_BYTES else lines[:-1], 1):
        if line.isascii():
            continue
        try:
            line.decode()
            return
        except UnicodeDecodeError as error:
            if _LETTER.search(line) is None:
                return
            letter = line[error.start : error.start + 1]
            raise SourceError(
                f"{path} line {number} is not UTF-8 (byte 0x{letter.hex()}, {letter.decode('cp1252', 'replace')!r} in "
                "Windows-1252): name the encoding, --encoding cp1252 (or latin-1, gb18030, ...)"
            ) from error


def _unzipped(path: Path) -> IO[bytes]:
    with path.open("rb") as raw:
        magic = raw.read(8)
    packed = next((name for begin, name in _ZIPPED if magic.startswith(begin)), None)
    if packed is None:
        return path.open("rb")
    if packed in ("gzip", "bz2", "lzma"):
        return cast(IO[bytes], importlib.import_module(packed).open(path))
    import pyarrow as pa

    return cast(IO[bytes], io.BufferedReader(pa.input_stream(str(path), compression=packed), 1 << 16))
