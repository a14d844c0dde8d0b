"""What the lock file is made from: `python deploy/supply.py wanted|installed`, each as lines of requirements.

`wanted` is what both distributions and their extras for running ask for, but for the distributions themselves;
`installed` is what this environment has of it, so that the lock names what the tests ran with.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("backup", "cloud", "embedded", "msk", "signing", "text")
"""Of those who run it; not those of tests and benchmarks, nor `gpu`, which wants another torch."""


def wanted() -> Iterator[str]:
    """Requirements, each once."""
    found: dict[str, None] = {}
    for path in (ROOT / "pyproject.toml", ROOT / "headwater/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        extras = project.get("optional-dependencies", {})
        for one in [*project["dependencies"], *(line for name in EXTRAS for line in extras.get(name, ()))]:
            found[one] = None
    return (one for one in found if not re.match(r"headwater\b", one))


def installed() -> Iterator[str]:
    """Every distribution with its version; of a build for one kind of machine, the version that all have."""
    for one in distributions():
        name, version = one.metadata["Name"], one.version.partition("+")[0]
        if not name.startswith("headwater"):
            yield f"{name}=={version}"


if __name__ == "__main__":
    print("\n".join(sorted({"wanted": wanted, "installed": installed}[sys.argv[1]]())))
