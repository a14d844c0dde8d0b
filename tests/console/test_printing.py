"""What commands print of ids and titles that somebody has chosen."""

from __future__ import annotations

import pytest
from rich.table import Table
from rich.text import Text

from console.printing import printer


def test_a_title_tells_the_terminal_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("id", "title")
    table.add_row("film-1", "\x1b]0;owned\x07\x9b2J\u202emlif")
    for stderr in (False, True):
        out = printer(stderr=stderr)
        out.print(table)
        out.print(Text("ann\x1b[2J", style="bold"), "two\nlines")
    for told in capsys.readouterr():
        assert "film-1" in told
        assert "two\nlines" in told
        assert not set(told) & set("\x1b\x07\x9b\u202e")
