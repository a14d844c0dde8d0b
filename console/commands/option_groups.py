"""Option groups: options that travel together are one dataclass, which many commands take as one parameter.

Light: imported by every command module at start. Typer knows only single options, so `grouped` shows it those.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

__all__ = ["given_options", "grouped"]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer reads it: each parameter that is a dataclass is replaced by the fields of that dataclass.

    Fields are annotated as parameters of a command are, `Annotated[int, typer.Option(...)]`, and keep their defaults
    and their order, so the command line is the same as if each were a parameter. A field that is a dataclass is
    replaced likewise.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Dough:
    ...     flour_g: int
    ...     salt_g: int = 10
    >>> @grouped
    ... def bake(name: str, dough: Dough, minutes: int = 30) -> None:
    ...     print(name, dough, minutes)
    >>> inspect.signature(bake)
    <Signature (*, name: str, flour_g: int, salt_g: int = 10, minutes: int = 30) -> None>
    >>> bake(name="rye", flour_g=500)
    rye Dough(flour_g=500, salt_g=10) 30

    Raises
        TypeError: at import, when two parameters or fields have one name.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    groups = {name: hints[name] for name in parameters if _is_group(hints[name])}
    shown = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for parameter in parameters.values()
        for name, annotation, default in _expanded(parameter.name, hints[parameter.name], parameter.default)
    ]
    twice = {one.name for one in shown if [other.name for other in shown].count(one.name) > 1}
    if twice:
        raise TypeError(f"{command.__module__}.{command.__name__} has two options called {', '.join(sorted(twice))}")

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = _built(group, given)
        command(**given)

    signature = inspect.Signature(shown, return_annotation=None)
    run.__signature__ = signature  # type: ignore[attr-defined]  # what inspect reads; functions do not declare it
    run.__annotations__ = {one.name: one.annotation for one in shown}
    return run


def given_options(group: Any) -> list[str]:
    """The words of a command line that give a group's options, those with their defaults left out.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Oven:
    ...     fan: bool | None = None
    ...     heat_c: int = 220
    ...     trays: list[str] | None = None
    >>> given_options(Oven(fan=False, trays=["a", "b"]))
    ['--no-fan', '--trays', 'a', '--trays', 'b']
    """
    words: list[str] = []
    for field in dataclasses.fields(group):
        value, option = getattr(group, field.name), field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            words += given_options(value)
        elif value == _default(field):
            continue
        elif isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [
                word for one in (value if isinstance(value, list) else [value]) for word in (f"--{option}", str(one))
            ]
    return words


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def _expanded(name: str, annotation: Any, default: Any) -> list[tuple[str, Any, Any]]:
    """Name, annotation and default of each option behind a parameter: itself, or the fields of its group."""
    if not _is_group(annotation):
        return [(name, annotation, default)]
    hints = typing.get_type_hints(annotation, include_extras=True)
    return [
        option
        for field in dataclasses.fields(annotation)
        for option in _expanded(field.name, hints[field.name], _default(field))
    ]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def _built(group: type[Any], given: dict[str, Any]) -> Any:
    """A group of the options in `given`, which are taken out of it. What is not given keeps its default."""
    hints = typing.get_type_hints(group)
    fields = {}
    for field in dataclasses.fields(group):
        if _is_group(hints[field.name]):
            fields[field.name] = _built(hints[field.name], given)
        elif field.name in given:
            fields[field.name] = given.pop(field.name)
    return group(**fields)
