"""The console that commands print to: the terminal's own width, or a readable one where the output is no terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from viewing.written import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

__all__ = ["printer"]

PLAIN_WIDTH = 120
"""Characters a line in files, pipes and logs; rich would take 80."""


def printer(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A rich console that colours nothing by itself. `soft_wrap` leaves long lines whole.

    Ids and titles are whatever somebody sent: what a terminal would take for a command is shown as what it is not.
    """
    from rich.console import Console

    class TextConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for one in super().render(renderable, options):
                yield one if one.control else one._replace(text=str(printable(one.text)))

    made = TextConsole(stderr=stderr, highlight=False, soft_wrap=soft_wrap)
    if not made.is_terminal:
        made.width = PLAIN_WIDTH
    return made
