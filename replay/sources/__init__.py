"""Where past events come from: files, other engines, MovieLens, ranges of Kafka; `source` says what each has.

Before: files and topics. After: `replay.stream` and `replay.backtest`.
"""

from replay.sources.catalogue_file import catalogue_from
from replay.sources.files import Columns, FileSource
from replay.sources.gorse import Gorse
from replay.sources.kafka_range import KafkaRange
from replay.sources.metarank import Metarank
from replay.sources.movielens import MovieLens, fetch_movielens
from replay.sources.source import Catalogued, RowOptions, Source, SourceReport
from replay.sources.times import TimeOptions

__all__ = [
    "Catalogued",
    "Columns",
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
]
