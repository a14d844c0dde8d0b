"""Where bundles are kept: the one way to write, read, list and remove them, whatever the place is.

Before: the trainer's publications. After: serving, rollbacks, `doctor` and explanations read them. `folder` has them on
a disk, `objects` in object storage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from models.published.announcement import MOST_AHEAD
from models.published.bundle import Bundle
from models.published.layout import parse_name
from models.published.signing.trust import NO_TRUST, Trust

__all__ = ["BundleStore", "newest_version", "open_store"]


class BundleStore(Protocol):
    """Bundles by name. A bundle is there whole or not at all, and never changes.

    Raises of all methods
        OSError: the disk refuses.
        Unavailable: the store is away, or does not let us do this; its message says what to do. It may pass.
    """

    @property
    def address(self) -> str:
        """For messages."""
        ...

    def write(self, bundle: Bundle) -> str:
        """Keep a bundle; its name. One that is there already is kept. What a try before this one wrote of the same
        bundle is not written again."""
        ...

    def read(self, name: str, heard: Callable[[], None] = lambda: None) -> Bundle:
        """A bundle, every checksum verified, its weights writable and held once.

        Parameters
            heard: is called whenever some of it has come.

        Raises
            BundleError: it is missing, incomplete, corrupt, of another format, not what its name says or of nobody
                whose bundles are taken; it says what to do.
        """
        ...

    def names(self) -> list[str]:
        """Of all bundles that are whole, the oldest version first."""
        ...

    def remove(self, name: str) -> None:
        """Remove a bundle, if it is there."""
        ...

    def clear_torn(self) -> None:
        """Remove what was not written to its end, by a kill or for want of room: nothing names it."""
        ...


def open_store(address: Path | str, trust: Trust = NO_TRUST) -> BundleStore:
    """The store at an address of the settings. Nothing is read or written yet.

    Parameters
        address: a folder, or a URL of object storage.
        trust: signs what is written, and says whose bundles are read.

    Raises
        SettingsError: it is a URL, and what speaks its protocol is not installed, or it is malformed.
    """
    if isinstance(address, Path):
        from models.published.stores.folder import FolderStore

        return FolderStore(address, trust)
    from models.published.stores.objects import ObjectStore

    return ObjectStore(address, trust)


def newest_version(names: Sequence[str], known: int = 0) -> int:
    """The newest version among the names of bundles; 0 when there is none.

    Parameters
        known: a version that was given away. What is so far beyond it that no trainer can have come there is none of
            ours: whoever may write to the store would use the numbers up.

    >>> newest_version(["v00000003-ab", "v999999999999999-ab"])
    3
    """
    versions = [said.version for said in map(parse_name, names) if said]
    return max((version for version in versions if version <= known + MOST_AHEAD), default=0)
