"""Bundles in a folder, each a folder of its own that is complete before it gets its name."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from models.files import sync_directory, write_synced
from models.published.bundle import Bundle
from models.published.layout import (
    METADATA,
    Chunks,
    bundle_name,
    named_bundle,
    only_name,
    pack_bundle,
    pack_metadata,
    parse_name,
    unpack_bundle,
)
from models.published.signing.trust import NO_TRUST, Trust

__all__ = ["FolderStore", "read_bundle", "write_bundle"]

CHUNK_BYTES = 1 << 20


class FolderStore:
    """See `BundleStore`. The folder is made by the first bundle."""

    def __init__(self, directory: Path, trust: Trust = NO_TRUST) -> None:
        self.directory = directory
        self._trust = trust

    @property
    def address(self) -> str:
        """For messages."""
        return str(self.directory)

    def write(self, bundle: Bundle) -> str:
        """Keep a bundle; its name."""
        return write_bundle(self.directory, bundle, self._trust).name

    def read(self, name: str, heard: Callable[[], None] = lambda: None) -> Bundle:
        """A bundle, every checksum verified."""
        return read_bundle(self.directory / only_name(name), heard, self._trust)

    def names(self) -> list[str]:
        """Of all bundles that are whole, the oldest version first."""
        found = [path.name for path in self.directory.iterdir()] if self.directory.is_dir() else []
        return sorted(filter(parse_name, found), key=lambda name: (parse_name(name), name))

    def remove(self, name: str) -> None:
        """Remove a bundle, if it is there."""
        if (self.directory / only_name(name)).is_dir():
            shutil.rmtree(self.directory / name)

    def clear_torn(self) -> None:
        """Remove what was not written to its end."""
        for torn in self.directory.glob(".writing-*"):
            shutil.rmtree(torn, ignore_errors=True)


def write_bundle(directory: Path, bundle: Bundle, trust: Trust = NO_TRUST) -> Path:
    """Write a bundle's folder, whole or not at all.

    Parameters
        directory: where the folders of all versions lie; made where it is missing.
        bundle: stays as it is.
        trust: signs it.

    Returns
        `directory/v<version>-<digest>`; a folder of that name that is there already is kept.

    Raises
        OSError: the disk refuses.
    """
    directory.mkdir(parents=True, exist_ok=True)
    final = directory / bundle_name(bundle)
    if final.is_dir():
        return final
    temporary = directory / f".writing-{final.name}-{secrets.token_hex(4)}"
    temporary.mkdir()
    contents = pack_bundle(bundle)
    for name, parts in contents.items():
        write_synced(temporary / name, parts)
    write_synced(temporary / METADATA, [pack_metadata(bundle, contents, trust=trust)])
    sync_directory(temporary)
    try:
        os.rename(temporary, final)
    except OSError:
        if not final.is_dir():  # else another process wrote the same content first
            raise
        shutil.rmtree(temporary)
    sync_directory(directory)
    return final


def read_bundle(path: Path, heard: Callable[[], None] = lambda: None, trust: Trust = NO_TRUST) -> Bundle:
    """The bundle of a folder.

    Raises
        BundleError: the folder is missing, incomplete, corrupt, of another format, not what its name says or of
            nobody whose bundles are taken; it says what to do. Nothing else is raised.
    """

    def chunks(name: str) -> Chunks:
        with (path / name).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                heard()
                yield chunk

    return named_bundle(path.name, unpack_bundle(str(path), chunks, trust), str(path))
