"""Files as tables: which files a name means, how each is written, its columns and its rows. It knows no events."""

from replay.sources.reading.bare import bare_rows
from replay.sources.reading.begin import Begin, begin_of
from replay.sources.reading.nested import value_of
from replay.sources.reading.opened import kind_of, start_of
from replay.sources.reading.paths import FilePart, parts_of
from replay.sources.reading.table import FileFormat, Table, objects_of

__all__ = [
    "Begin",
    "FileFormat",
    "FilePart",
    "Table",
    "bare_rows",
    "begin_of",
    "kind_of",
    "objects_of",
    "parts_of",
    "start_of",
    "value_of",
]
