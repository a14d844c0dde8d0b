"""One model as JSON and back: size, depth and the model's own rules, told in short words.

Before: a model, or bytes that anyone sent. After: bytes, or a model, or an InvalidMessage whose text stays short and
whose making recurses into nothing that was sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from headwater.errors import InvalidMessage
from headwater.spelling import problem_text

__all__ = [
    "MAX_DEPTH",
    "MAX_VALUE_BYTES",
    "check_depth",
    "decode",
    "encode",
    "not_json",
    "only_refusals",
    "record_key",
    "refuse_deep",
    "short_text",
    "too_deep",
    "unforeseen",
    "validated",
]

Model = TypeVar("Model", bound=BaseModel)

MAX_VALUE_BYTES = 1_000_000
"""Largest value read, in bytes; Kafka's own default limit is 1,048,588 with the batch overhead."""

MOST_FIELDS = 256
"""Of one object that a model is made of; ours have some twenty."""

MOST_PROBLEMS = 1_000
"""Of one message that are looked at: telling each of half a million takes a second, and 300 MB."""

MAX_DEPTH = 32
"""Most objects and arrays inside one another in one message (for packed events: in one event)."""


def encode(model: BaseModel) -> bytes:
    """One model as compact JSON without null fields.

    Raises
        InvalidMessage: it holds what JSON cannot (`schema`).
    """
    try:
        return orjson.dumps(model.model_dump(mode="json", exclude_none=True))
    except (TypeError, ValueError, RecursionError) as error:
        what = type(model).__name__
        text = f"{what}: cannot be written as JSON ({error!s:.200}). Use plain objects, arrays, text and numbers."
        raise InvalidMessage("schema", text) from error


def decode(model: type[Model], value: bytes | None, at: str = "") -> Model:
    """The model of a value.

    Parameters
        model: a pydantic class.
        value: of a record, which anyone may have sent.
        at: comes before the model's name in a message.

    Raises
        InvalidMessage: `undecodable`, `schema`, `null_value`, `too_large` or `too_deep`.
    """
    name = f"{at}{model.__name__}"
    with only_refusals(name):
        if value is None:
            raise InvalidMessage("null_value", f"{name}: null value")
        if len(value) > MAX_VALUE_BYTES:
            raise InvalidMessage("too_large", f"{name}: {len(value):,} bytes (limit {MAX_VALUE_BYTES:,}). Send less.")
        try:
            body = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise not_json(error, name, "Send one object.") from error
        if value.count(b"[") + value.count(b"{") > MAX_DEPTH:
            refuse_deep(body, name)
        return validated(model, body, name)


def check_depth(value: bytes, at: str) -> None:
    """Raises InvalidMessage (`too_deep`) for JSON that readers would refuse for its depth."""
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH:
        try:
            body = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise not_json(error, at, "") from error
        refuse_deep(body, at)


def validated(model: type[Model], body: Any, at: str) -> Model:
    """The model of a decoded value.

    Parameters
        model: a pydantic class.
        body: what orjson gave.
        at: begins a message.

    Raises
        InvalidMessage: `schema` or `too_deep`.
    """
    if isinstance(body, dict) and len(body) > MOST_FIELDS:
        own = len(model.model_fields)
        raise InvalidMessage("schema", f"{at}: {len(body):,} fields. {model.__name__} has {own}.")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise InvalidMessage("schema", f"{at}: {_problems(error, model)}") from error
    except RecursionError as error:
        raise too_deep(at) from error


def refuse_deep(body: Any, at: str) -> None:
    """Refuse what is nested over MAX_DEPTH. At most MAX_DEPTH passes, each over one level; no recursion.

    Raises
        InvalidMessage: `too_deep`.
    """
    level = [body] if isinstance(body, dict | list) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    if level:
        raise too_deep(at)


def too_deep(at: str) -> InvalidMessage:
    """The refusal of a message nested too deep."""
    return InvalidMessage("too_deep", f"{at}: objects and arrays nested over {MAX_DEPTH} deep. Flatten it.")


def not_json(error: orjson.JSONDecodeError, at: str, remedy: str) -> InvalidMessage:
    """The refusal of bytes that orjson does not read; it reads 1024 levels at most."""
    if re.search("(depth|recursion) limit", error.msg, re.IGNORECASE):
        return too_deep(at)
    return InvalidMessage("undecodable", f"{at}: not JSON ({error.msg:.80} at byte {error.pos}). {remedy}".rstrip())


def unforeseen(error: Exception, at: str) -> InvalidMessage:
    """The InvalidMessage of an exception that no check foresaw; please report it."""
    text = f"{at}: {type(error).__name__}: {error!s:.300}. Headwater did not foresee this content: please report it."
    return InvalidMessage("internal", text)


@contextmanager
def only_refusals(at: str) -> Iterator[None]:
    """Whatever is raised within becomes an InvalidMessage: the one guard of a record in its one reader.

    Parameters
        at: where, for the message.

    Raises
        InvalidMessage: as it was raised within, or `internal` for what no check foresaw.
    """
    try:
        yield
    except InvalidMessage:
        raise
    except Exception as error:  # the content of one record is the only thing that can differ here
        raise unforeseen(error, at) from error


def record_key(key: bytes | None, at: str, remedy: str) -> str:
    """The key of a record of a compacted topic, which must have one.

    Parameters
        key: of the record.
        at: where it is.
        remedy: `Key items by item_id`.

    Raises
        InvalidMessage: `null_key` or `undecodable`.
    """
    if key is None:
        raise InvalidMessage("null_key", f"{at}: no key. {remedy}, so that the newest replaces the older.")
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise InvalidMessage("undecodable", f"{at}: the key is not UTF-8 ({error!s:.80}). {remedy}.") from error


def short_text(given: Any) -> str:
    """A value in a message: short whatever was sent, and without a look inside containers."""
    if isinstance(given, str):
        return repr(given if len(given) <= 60 else given[:60] + "...")
    if given is None or isinstance(given, bool | float):
        return repr(given)
    if isinstance(given, int):
        return repr(given) if given.bit_length() <= 64 else f"an integer of {given.bit_length()} bits"
    return f"a {type(given).__name__}"


def _problem(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """What was given is told, where it is more than the object that something is wrong in."""
    at, text = ".".join(str(part)[:60] for part in problem["loc"][:6]), problem_text(problem, model)
    if problem["type"] == "missing":
        return f"{at}: {text}"
    if not at and isinstance(problem["input"], dict):
        return text
    return f"{at or 'value'}: {text} (given {short_text(problem['input'])})"


def _problems(error: ValidationError, model: type[BaseModel]) -> str:
    if (count := error.error_count()) > MOST_PROBLEMS:
        return f"{count:,} problems, which are too many to tell. Send one {model.__name__}"
    found = error.errors(include_url=False)
    texts = [_problem(problem, model) for problem in found[:5]]
    return "; ".join(texts) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
