"""What every reader and writer of messages checks: depth, and a model's own rules, told in short words.

Before: bytes, or what JSON decoding gave. After: a model, or an InvalidMessage whose text stays short and whose making
recurses into nothing that was sent.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from headwater.errors import InvalidMessage

__all__ = ["MAX_DEPTH", "check_depth", "not_json", "refuse_deep", "told", "too_deep", "validated"]

Model = TypeVar("Model", bound=BaseModel)

MAX_DEPTH = 32
"""Most objects and arrays inside one another in one message (for packed events: in one event)."""


def check_depth(value: bytes, at: str) -> None:
    """Raises InvalidMessage (`too_deep`) for JSON that readers would refuse for its depth."""
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH:
        try:
            body = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise not_json(error, at, "") from error
        refuse_deep(body, at)


def validated(model: type[Model], body: Any, at: str) -> Model:
    """The model of a decoded value. Raises InvalidMessage (`schema`, `too_deep`)."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise InvalidMessage("schema", f"{at}: {_problems(error)}") from error
    except RecursionError as error:
        raise too_deep(at) from error


def refuse_deep(body: Any, at: str) -> None:
    """Raises InvalidMessage (`too_deep`). At most MAX_DEPTH passes, each over one level; no recursion."""
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


def told(given: Any) -> str:
    """A value in a message: short whatever was sent, and without a look inside containers."""
    if isinstance(given, str):
        return repr(given if len(given) <= 60 else given[:60] + "...")
    if given is None or isinstance(given, bool | float):
        return repr(given)
    if isinstance(given, int):
        return repr(given) if given.bit_length() <= 64 else f"an integer of {given.bit_length()} bits"
    return f"a {type(given).__name__}"


def _problems(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False)
    texts = [
        f"{'.'.join(str(part)[:60] for part in problem['loc'][:6]) or 'value'}: {problem['msg']:.200} "
        f"(given {told(problem['input'])})"
        for problem in found[:5]
    ]
    return "; ".join(texts) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
