"""Names that are nearly right: "did you mean diversity?", for whatever a person or a program wrote.

Before: a name that is none. After: the error that says so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

__all__ = ["closest", "did_you_mean", "problem_text"]

ALIKE = 0.7
PYTHONS = {
    "tuple_type": "Input should be a list",
    "dict_type": "Input should be an object of names and values",
    "model_type": "Input should be an object of names and values",
}
"""What pydantic says of a value in words of Python, in those of JSON and TOML."""

COMPARED, LEAST_BEGUN = 80, 3
"""Most characters of a name, and least of one that is only begun: `temp`."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like one that is not known, however it is written; None for none.

    >>> closest("For_Yuo", ["for-you", "popular"]), closest("x", ["popular"])
    ('for-you', None)
    """
    plain: dict[str, str] = {}
    for one in known:
        plain.setdefault(_plain(one), one)
    short = _plain(name)
    found = difflib.get_close_matches(short, plain, 1, ALIKE)
    if not found and len(short) >= LEAST_BEGUN:
        found = [one for one in plain if one.startswith(short)]
    return plain[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error, or nothing.

    >>> did_you_mean("diversty", ["k", "diversity"]), did_you_mean("x", ["diversity"])
    (' Did you mean diversity?', '')
    """
    found = closest(name, known)
    return "" if found is None else f" Did you mean {found:.80}?"


def problem_text(problem: Mapping[str, Any], told: Any) -> str:
    """What one of pydantic's errors says, with the name that was meant where one is nearly right.

    Parameters
        problem: of `ValidationError.errors()`, with its context.
        told: the model, or the annotation, that was validated.
    """
    text, at = f"{problem['msg'].removeprefix('Value error, ').rstrip('.'):.400}", problem["loc"]
    if problem["type"] in PYTHONS:
        text = PYTHONS[problem["type"]]
    if problem["type"] == "extra_forbidden" and at:
        return text + _hint(str(at[-1]), _fields(told, at[:-1]))
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        return text + _hint(problem["input"], re.findall("'([^']*)'", str(problem.get("ctx", {}).get("expected"))))
    return text


def _hint(name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known)
    return f".{hint}" if hint else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]", "", name[:COMPARED].lower())


def _fields(told: Any, at: Sequence[int | str]) -> list[str]:
    """The names that an object at a place may have, in a model or an annotation."""
    if isinstance(told, type) and issubclass(told, BaseModel):
        if not at:
            return list(told.model_fields)
        field = told.model_fields.get(str(at[0]))
        return [] if field is None else _fields(field.annotation, at[1:])
    within = get_args(told)
    if get_origin(told) in (dict, tuple, list) and at:
        within, at = within[-1:] if get_origin(told) is dict else within, at[1:]
    return [name for one in within for name in _fields(one, at)]
