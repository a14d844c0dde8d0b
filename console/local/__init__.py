"""Headwater on this machine: which processes run, where they listen, who starts them again.

Before: `up`, `demo`, and every command that looks for a running one. After: `embedded` and the workers. Modules are
imported one by one, where they are used, so that the command line starts quickly.
"""

from pathlib import Path

__all__ = ["DEFAULT_DATA"]

DEFAULT_DATA = Path(".headwater")
"""Where `headwater up` keeps its data unless told otherwise, and where other commands look for a running one."""
