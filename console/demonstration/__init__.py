"""`headwater demo`: real events through real workers, shown live and audited at the end.

Before: `console.commands.demo` parses what a person typed. After: a supervisor's workers. `run` puts in order what the
other modules do: data, feed, visitors, newcomer, figures, view, audit, pages, summary.
"""

from console.demonstration.cleanup import own_world
from console.demonstration.data import read_data
from console.demonstration.pages import Pages
from console.demonstration.run import Demo
from console.demonstration.view import LinesView, LiveView, View

__all__ = ["Demo", "LinesView", "LiveView", "Pages", "View", "own_world", "read_data"]
