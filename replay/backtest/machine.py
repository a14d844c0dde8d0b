"""What a backtest ran on: versions, machine and memory. All else in a result follows from stream, settings and seed."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["peak_rss_mb", "versions"]

PACKAGES = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "implicit": ("implicit",),
    "numpy": ("numpy",),
}
"""What computes, and under which names it is installed."""


def peak_rss_mb() -> float:
    """The most memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB here


def versions() -> dict[str, str]:
    """Ours, with the commit where this is a working copy, those of what computes, and the machine."""
    found = {"headwater": _installed(("headwater",)), "python": platform.python_version()}
    commit = _commit()
    if commit:
        found["commit"] = commit
    found |= {name: _installed(names) for name, names in PACKAGES.items()}
    found["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return found


def _installed(names: Sequence[str]) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"


def _commit() -> str | None:
    """The commit that runs, where this is a working copy; with a + when it was changed."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
