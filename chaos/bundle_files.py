"""The files of published bundles, wherever they are kept, as somebody sees them who damages them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

__all__ = ["BundleFiles", "open_files"]


class BundleFiles(Protocol):
    """By path: `BUNDLE/FILE`. All raise OSError or Unavailable where the place is away."""

    def get(self, path: str) -> bytes:
        """What a file holds."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write a file, whole."""
        ...

    def delete(self, paths: list[str]) -> None:
        """Remove files."""
        ...

    def paths(self, prefix: str = "") -> list[str]:
        """Of all files under a prefix."""
        ...


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, path: str) -> bytes:
        return (self._folder / path).read_bytes()

    def put(self, path: str, data: bytes) -> None:
        file = self._folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            (self._folder / path).unlink()

    def paths(self, prefix: str = "") -> list[str]:
        found = (str(path.relative_to(self._folder)) for path in self._folder.glob("*/*") if path.is_file())
        return [path for path in found if path.startswith(prefix)]


def open_files(address: Path | str) -> BundleFiles:
    """Those at an address of the settings."""
    if isinstance(address, Path):
        return _Folder(address)
    from models.published.stores.objects import ObjectFiles

    return ObjectFiles(address)
