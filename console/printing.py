"""The console that commands print to: the terminal's own width, or a readable one where the output is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["printer"]

PLAIN_WIDTH = 120
"""Characters a line in files, pipes and logs; rich would take 80."""


def printer(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A rich console that colours nothing by itself. `soft_wrap` leaves long lines whole."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, soft_wrap=soft_wrap)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, soft_wrap=soft_wrap, width=PLAIN_WIDTH)
