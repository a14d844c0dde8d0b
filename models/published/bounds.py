"""What a published model may say of itself: the bounds of every number and text that comes from a disk or a topic.

Before: bytes that anybody may have written. After: `announcement`, `delta` and `bundle` hold values within these
bounds, or raise their named error and nothing else. Knows no files and no topics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from headwater.errors import BundleError, InvalidMessage, Unavailable
from headwater.wire import refuse_deep, validated

__all__ = [
    "COUNTED_TIME",
    "LEARNED_TIME",
    "MAX_OFFSET",
    "MAX_PARTS",
    "MAX_VERSION",
    "Count",
    "Digest",
    "Number",
    "SaidOfModel",
    "Version",
    "checked_body",
    "only_bundle_errors",
]

MAX_VERSION = 10**15
MAX_OFFSET = 2**63 - 1
MAX_PARTS = 10_000
"""Of one delta: at 900 KB each, 9 GB."""

COUNTED_TIME, LEARNED_TIME = "counted_time", "learned_time"
"""What `extra` says of a model: when the newest examples came into the log, epoch ms, that its memories and counts
know, and that its slow part (encoder, gate, ranker) has learned; 0 or absent where nobody knows."""

Version = Annotated[int, Field(gt=0, lt=MAX_VERSION)]
Number = Annotated[int, Field(ge=0, le=MAX_OFFSET)]
"""An offset, or epoch ms."""
Count = Annotated[int, Field(ge=0, lt=2**31)]
"""Of rows: row numbers of the graph are 32 bits wide."""
Digest = Annotated[str, Field(max_length=200)]

Model = TypeVar("Model", bound=BaseModel)


class SaidOfModel(BaseModel):
    """What the metadata of a bundle and the head of a delta both say. Later releases may say more."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    parent: Digest | None
    created_ms: Number
    types: list[str]
    metrics: dict[str, Any]
    extra: dict[str, Any]

    @field_validator("extra")
    @classmethod
    def _with_numbers(cls, extra: dict[str, Any]) -> dict[str, Any]:
        for name in ("examples_seen", COUNTED_TIME, LEARNED_TIME):  # receipts go by them
            number = extra.get(name, 0)
            if type(number) is not int or not 0 <= number <= MAX_OFFSET:
                raise ValueError(f"{name} is no whole number from 0")
        return extra


def checked_body(model: type[Model], body: Any, at: str, remedy: str) -> Model:
    """The model of a decoded value.

    Parameters
        model: a pydantic class.
        body: what orjson gave.
        at, remedy: begin and end a message.

    Raises
        BundleError: it is no such model, or nested too deep.
    """
    try:
        refuse_deep(body, at)
        return validated(model, body, at)
    except InvalidMessage as error:
        raise BundleError(f"{error}: {remedy}") from error


@contextmanager
def only_bundle_errors(at: str, remedy: str) -> Iterator[None]:
    """Whatever is raised within becomes a BundleError: of a content, anything at all can be wrong. But a place that is
    away says nothing of what it holds."""
    try:
        yield
    except (BundleError, Unavailable):
        raise
    except Exception as error:  # numpy, safetensors and json each have a tree of their own
        raise BundleError(f"{at} cannot be decoded ({error!r:.200}): {remedy}") from error
