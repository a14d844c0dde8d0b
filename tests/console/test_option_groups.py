"""Option groups: a command that takes dataclasses has the command line of one that takes each option itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from console.commands.option_groups import grouped


@dataclass(frozen=True)
class ColumnOptions:
    """A group with a renamed option and one without a default."""

    item: Annotated[str, typer.Option("--item-column", metavar="NAME", help="Column of the item.")]
    user: Annotated[str | None, typer.Option(help="Column of the user.")] = None


@dataclass(frozen=True)
class ReadingOptions:
    """A group within a group, a list, and a flag."""

    columns: ColumnOptions
    every: Annotated[list[int], typer.Option(min=1, help="Numbers.")] = field(default_factory=lambda: [7, 8])
    sort: Annotated[bool, typer.Option(help="Sort first.")] = True


SEEN: list[tuple[str, ReadingOptions, int]] = []


def together(path: str, reading: ReadingOptions, limit: Annotated[int, typer.Option(help="Stop.")] = 5) -> None:
    """Read a file."""
    SEEN.append((path, reading, limit))


def alone(
    path: str,
    item: Annotated[str, typer.Option("--item-column", metavar="NAME", help="Column of the item.")],
    user: Annotated[str | None, typer.Option(help="Column of the user.")] = None,
    every: Annotated[list[int], typer.Option(min=1, help="Numbers.")] = [7, 8],  # noqa: B006 - typer reads it
    sort: Annotated[bool, typer.Option(help="Sort first.")] = True,
    limit: Annotated[int, typer.Option(help="Stop.")] = 5,
) -> None:
    """Read a file."""
    columns = ColumnOptions(item, user)
    SEEN.append((path, ReadingOptions(columns, every, sort), limit))


def apps() -> tuple[typer.Typer, typer.Typer]:
    one, other = typer.Typer(), typer.Typer()
    one.command("read")(grouped(together))
    other.command("read")(alone)
    return one, other


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        (),
        ("a.csv",),
        ("a.csv", "--item-column", "x"),
        ("a.csv", "--item-column", "x", "--every", "3", "--every", "4", "--no-sort", "--user", "u", "--limit", "9"),
        ("a.csv", "--item-column", "x", "--every", "0"),
        ("a.csv", "--item", "x"),
    ],
    ids=" ".join,
)
def test_help_values_and_errors_are_those_of_single_options(words: tuple[str, ...]) -> None:
    told = []
    for app in apps():
        SEEN.clear()
        done = CliRunner().invoke(app, words)
        told.append((done.exit_code, done.stdout, done.stderr, list(SEEN)))
    assert told[0] == told[1]


def test_an_option_that_two_groups_have_is_found_at_import() -> None:
    def twice(reading: ReadingOptions, user: str = "") -> None:
        """Two options called user."""

    with pytest.raises(TypeError, match="two options called user"):
        grouped(twice)
