"""Where past events come from: files, other systems, MovieLens, ranges of Kafka; `source` says what each has.

Before: files and topics. After: `replay.stream` and `replay.backtest`.
"""

from replay.sources.catalogue_file import catalogue_from
from replay.sources.columns import Columns, columns_named
from replay.sources.files import FilePlan, FileSource
from replay.sources.formats import FORMATS, Gorse, KnownFile, Metarank, format_of, tables_of
from replay.sources.kafka_range import KafkaRange
from replay.sources.kinds import kinds_named
from replay.sources.logins import Login
from replay.sources.movielens import MovieLens, fetch_movielens
from replay.sources.reading import FileFormat
from replay.sources.source import Catalogued, RowOptions, Source, SourceReport
from replay.sources.times import TimeOptions, moment_ms

__all__ = [
    "FORMATS",
    "Catalogued",
    "Columns",
    "FileFormat",
    "FilePlan",
    "FileSource",
    "Gorse",
    "KafkaRange",
    "KnownFile",
    "Login",
    "Metarank",
    "MovieLens",
    "RowOptions",
    "Source",
    "SourceReport",
    "TimeOptions",
    "catalogue_from",
    "columns_named",
    "fetch_movielens",
    "format_of",
    "kinds_named",
    "moment_ms",
    "tables_of",
]
