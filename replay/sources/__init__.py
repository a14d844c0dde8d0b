"""Where past events come from: files, other engines, MovieLens, ranges of Kafka; `source` says what each has.

Before: files and topics. After: `replay.stream` and `replay.backtest`.
"""

from replay.sources.catalogue_file import catalogue_from
from replay.sources.columns import Columns
from replay.sources.files import FilePlan, FileSource
from replay.sources.gorse import Gorse
from replay.sources.kafka_range import KafkaRange
from replay.sources.kinds import kinds_named
from replay.sources.metarank import Metarank
from replay.sources.movielens import MovieLens, fetch_movielens
from replay.sources.reading import FileFormat
from replay.sources.source import Catalogued, RowOptions, Source, SourceReport
from replay.sources.times import TimeOptions, moment_ms

__all__ = [
    "Catalogued",
    "Columns",
    "FileFormat",
    "FilePlan",
    "FileSource",
    "Gorse",
    "KafkaRange",
    "Metarank",
    "MovieLens",
    "RowOptions",
    "Source",
    "SourceReport",
    "TimeOptions",
    "catalogue_from",
    "fetch_movielens",
    "kinds_named",
    "moment_ms",
]
