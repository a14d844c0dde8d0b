"""Backups of a world, and a world made again of one: what no log holds for ever, in one place and sealed.

Before: a running world. After: `headwater backup`, `headwater restore`, and the drill that proves the two. In a
backup is what retention or a disk may take: features, identities and settings topics, the newest checkpoint, bundles,
offsets. The logs themselves (`events`, `examples`) are Kafka's to keep.
"""

from recovery.backup import BackedUp, back_up
from recovery.drill import Drill, drill
from recovery.forgotten import accept_new_events
from recovery.places import open_place
from recovery.restore import Restored, restore
from recovery.sealed import BackupError, SealedBackup, backups_at, backups_of, read_key

__all__ = [
    "BackedUp", "BackupError", "Drill", "Restored", "SealedBackup", "accept_new_events", "back_up", "backups_at",
    "backups_of", "drill", "open_place", "read_key", "restore",
]  # fmt: skip
