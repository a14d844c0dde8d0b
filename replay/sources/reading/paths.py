"""Which files a name means: one file, a folder of parts as Spark, Hive and BigQuery write it, or a glob.

Before: what a person wrote. After: `table` reads each part. Knows no format beyond the names of files.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from headwater.errors import SourceError

__all__ = ["FilePart", "parts_of"]

NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
BESIDE = {".crc", ".md", ".html", ".pdf", ".png", ".jpg", ".sql", ".py", ".ipynb", ".yaml", ".yml", ".sha256", ".md5"}
"""Endings of what lies beside data in a folder."""

_PARTITION = re.compile(r"([A-Za-z_][\w.-]*)=(.*)")


class FilePart(NamedTuple):
    """One file of a source, and the columns that the folders above it stand for: `dt=2024-01-02/` gives `dt`."""

    path: Path
    partition: dict[str, str | None]


def parts_of(name: Path | str) -> list[FilePart]:
    """The files that a name means, in the order of their names with numbers as numbers.

    Parameters
        name: a file, a folder, or a glob (`logs/part-*.csv`, `logs/**/*.parquet`). In folders, what is hidden, begins
            with `_`, is empty or is no data (.crc, .md) is passed over.

    Raises
        SourceError: nothing is there, or the folder is a table whose files are not all part of it.
    """
    path = Path(name)
    if path.is_file():
        return [FilePart(path, _partition(path))]
    if path.is_dir():
        found = sorted(_within(path), key=_natural)
        nothing = f"{path} is a folder without files of events"
    elif path.exists():
        raise SourceError(
            f"{path} is neither a file nor a folder (a pipe?): write it to a file first, it is read twice"
        )
    else:
        matches = [Path(one) for one in glob.glob(str(name), recursive=True)] if glob.has_magic(str(name)) else []
        inner = {file for one in matches for file in (_within(one) if one.is_dir() else [one])}
        found = sorted((file for file in inner if file.is_file()), key=_natural)
        nothing = f"{name} is not a file: give a file, a folder of parts or a glob in quotes ('logs/part-*.csv')"
    full = [file for file in found if file.stat().st_size > 0]
    if not full:
        raise SourceError(f"{nothing}: the {len(found)} in it are empty" if found else nothing)
    return [FilePart(file, _partition(file)) for file in full]


def _within(folder: Path) -> Iterator[Path]:
    _refuse_tables(folder)
    for path in folder.iterdir():
        if path.name.startswith(("_", ".")) or path.suffix.lower() in BESIDE:
            continue
        if path.is_dir():
            yield from _within(path)
        elif path.is_file():
            yield path


def _refuse_tables(folder: Path) -> None:
    """A lake's table keeps files that are no longer part of it: read as a folder, deleted rows would come back."""
    for mark, kind in (("_delta_log", "Delta"), (".hoodie", "Hudi")):
        if (folder / mark).is_dir():
            raise SourceError(_table(folder, kind))
    if (folder / "metadata").is_dir() and any((folder / "metadata").glob("*.metadata.json")):
        raise SourceError(_table(folder, "Iceberg"))


def _table(folder: Path, kind: str) -> str:
    return (
        f"{folder} is a {kind} table: some of its files are old versions, and only {kind} knows which. Export it as "
        "parquet (spark: df.write.parquet(...)), and give that folder"
    )


def _partition(path: Path) -> dict[str, str | None]:
    """The `name=value` folders on the way to a file; the word that Hive writes for none is None."""
    found: dict[str, str | None] = {}
    for folder in path.parts[:-1]:
        matched = _PARTITION.fullmatch(folder)
        if matched:
            value = unquote(matched[2])
            found[matched[1]] = None if value == NO_PARTITION else value
    return found


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """part-2 before part-10."""
    return [
        (0, int(piece), piece) if piece.isdigit() and len(piece) < 19 else (1, 0, piece)
        for piece in re.split(r"([0-9]+)", str(path))
    ]
