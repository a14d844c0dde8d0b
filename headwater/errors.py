"""The error tree. Every error that Headwater raises on purpose is one of these.

    HeadwaterError
    |-- SettingsError        a setting is unknown, malformed or contradicts another
    |-- InvalidMessage       a message breaks the contract; carries the reason it is counted under
    |-- Unavailable          a server (Kafka, Redis) or a device that was asked for is not there
    |-- AccessDenied         a server (Kafka, Redis) does not let us in, or not do this: no waiting mends it
    |-- DeadlineExceeded     no answer within the time the caller gave
    |-- RequestRefused       the serving worker answered, and the answer is an error
    |-- BundleError          a published model is corrupt, incomplete or of another format
    |-- CheckpointError      a trainer checkpoint is truncated, corrupt or of another format
    |-- AnotherLog           the store has folded another, longer log than the one that is there
    |-- StoreDamaged         what all features depend on holds what nobody wrote: marks, or the landmark of the decay
    |-- NewerFormat          what is stored may be neither read nor written over: a later release wrote it, or it is
    |                        sealed by a key that is not here
    |-- SourceError          a file or a Kafka range to replay cannot be read
    `-- Stalled              a worker made no progress for longer than its limit

A message says what happened, where, the value, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "AccessDenied",
    "AnotherLog",
    "BundleError",
    "CheckpointError",
    "DeadlineExceeded",
    "HeadwaterError",
    "InvalidMessage",
    "NewerFormat",
    "RequestRefused",
    "SettingsError",
    "SourceError",
    "Stalled",
    "StoreDamaged",
    "Unavailable",
]


class HeadwaterError(Exception):
    """Root of the tree: `except HeadwaterError` catches all that Headwater raises on purpose."""


class SettingsError(HeadwaterError):
    """A setting is unknown, malformed or contradicts another."""


class InvalidMessage(HeadwaterError):
    """A message breaks the contract.

    `reason` is the short, stable word that dead letters and metrics are counted under (`undecodable`, `schema`,
    `event_time_unit`, ...); the text says what, where, the value, and what to do. For an event of a packed record,
    `body` is that event alone as JSON and `key` its user_id, if it has one; None: the record's own value and key.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.body: bytes | None = None
        self.key: bytes | None = None

    def as_value(self) -> InvalidMessage:
        """Itself, to be kept and not raised: without its stack and what caused it. The stack would hold whoever read
        the message, all of its batch, in a circle, until Python looks for circles.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class Unavailable(HeadwaterError):
    """A server (Kafka, Redis) or a device that was asked for is not there."""


class AccessDenied(HeadwaterError):
    """A server (Kafka, Redis) does not let us in, or not do this: a login, a certificate or a permission is wrong."""


class DeadlineExceeded(HeadwaterError, TimeoutError):
    """No answer came within the time the caller gave."""


class RequestRefused(HeadwaterError):
    """The serving worker answered with an error; `code` is its stable word (`unknown_field`, `schema`, ...)."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class BundleError(HeadwaterError):
    """A published model is corrupt, incomplete or of another format."""


class CheckpointError(HeadwaterError):
    """A trainer checkpoint is truncated, corrupt or of another format."""


class AnotherLog(HeadwaterError):
    """The store has folded another, longer log than the one that is there; `what` is wrong, and the `remedy`."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}. {remedy}")
        self.what = what
        self.remedy = remedy


class StoreDamaged(HeadwaterError):
    """What all features depend on holds what nobody wrote; `what` is wrong, and the `remedy`."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}. {remedy}")
        self.what = what
        self.remedy = remedy


class NewerFormat(HeadwaterError):
    """What is stored may be neither read nor written over: a later release wrote it, or it is sealed by a key that is
    not here.
    """


class SourceError(HeadwaterError):
    """A file or a Kafka range to replay cannot be read."""


class Stalled(HeadwaterError):
    """A worker made no progress for longer than its limit."""
