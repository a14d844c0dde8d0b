"""Where backups lie: a folder, or object storage by its URL."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from headwater.errors import SettingsError
from headwater.process.masks import address_text
from headwater.settings import BundlesAddress
from models.files import sync_directory, write_synced

__all__ = ["BackupPlace", "FolderFiles", "open_place"]


class BackupPlace(Protocol):
    """Files by path. A file is there whole or not at all.

    Raises of all methods
        OSError: the disk refuses; FileNotFoundError where a file is missing.
        Unavailable: object storage is away, or does not let us do this.
    """

    @property
    def address(self) -> str:
        """For messages."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write a file."""
        ...

    def get(self, path: str) -> bytes:
        """A file's bytes."""
        ...

    def paths(self, prefix: str = "") -> list[str]:
        """Of all files below a folder, or of all, sorted."""
        ...

    def delete(self, paths: list[str]) -> None:
        """Remove these."""
        ...


class FolderFiles:
    """See `BackupPlace`. The folder is made by the first file; only its owner may read it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def address(self) -> str:
        """For messages."""
        return str(self._directory)

    def put(self, path: str, data: bytes) -> None:
        """Write a file."""
        final = self._directory / path
        final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = final.with_name(f".{final.name}.writing")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        write_synced(temporary, [data])
        temporary.replace(final)
        sync_directory(final.parent)

    def get(self, path: str) -> bytes:
        """A file's bytes."""
        return (self._directory / path).read_bytes()

    def paths(self, prefix: str = "") -> list[str]:
        """Of all files below a folder, or of all, sorted."""
        below = self._directory / prefix
        files = (path for path in below.rglob("*") if path.is_file()) if below.is_dir() else ()
        return sorted(str(path.relative_to(self._directory)) for path in files)

    def delete(self, paths: list[str]) -> None:
        """Remove these, and folders that are empty then."""
        for path in paths:
            (self._directory / path).unlink(missing_ok=True)
        for parent in {(self._directory / path).parent for path in paths} - {self._directory}:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def open_place(url: str) -> BackupPlace:
    """The place at a folder or URL. Nothing is read or written yet. Raises SettingsError."""
    try:
        address: Path | str = TypeAdapter(BundlesAddress).validate_python(url)
    except ValidationError as error:
        raise SettingsError(f"{address_text(url):.200} {error.errors()[0]['msg']}") from None  # its text has the URL
    if isinstance(address, Path):
        return FolderFiles(address)
    from models.published.stores.objects import ObjectFiles

    return ObjectFiles(address)
