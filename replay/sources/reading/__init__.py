"""Files as tables: which files a name means, how each is written, its columns and its rows. It knows no events."""

from replay.sources.reading.opened import kind_of, start_of
from replay.sources.reading.paths import FilePart, parts_of
from replay.sources.reading.table import FileFormat, Table, objects_of

__all__ = ["FileFormat", "FilePart", "Table", "kind_of", "objects_of", "parts_of", "start_of"]
