"""Secrets given as a value or as a file: `password` and `password_file`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from headwater.errors import SettingsError

__all__ = ["MOST_BYTES", "read_secret", "variable_of"]

MOST_BYTES = 64 * 1024
"""A token may be some kilobytes; a file larger than this is no secret but a mistake."""


def variable_of(setting: str) -> str:
    """The variable of the environment that sets a setting.

    >>> variable_of("kafka.sasl_password")
    'HEADWATER_KAFKA__SASL_PASSWORD'
    """
    return f"HEADWATER_{setting.upper().replace('.', '__', 1)}"


def read_secret(section: str, settings: Any, name: str) -> str | None:
    """A secret of a section, from its value or from the file that `<name>_file` names; None when neither is given.

    A file is read whenever it is asked for, so that a new connection uses what a rotation has written. One line break
    at its end, which editors and `echo` write, is none of the secret.

    Raises
        SettingsError: both are given, or the file cannot be read, is empty or far too large.
    """
    value: SecretStr | None = getattr(settings, name)
    path: Path | None = getattr(settings, f"{name}_file")
    at = f"{section}.{name}"
    if path is None:
        return None if value is None else value.get_secret_value()
    if value is not None:
        raise SettingsError(f"{at} and {at}_file are both set: unset one of them ({variable_of(at)})")
    try:
        with path.open("rb") as file:
            held = file.read(MOST_BYTES + 1)
        text = held.decode()
    except OSError as error:
        raise SettingsError(
            f"{at}_file {path}: {error.strerror or error}. Name a file that this process may read and that holds the "
            f"secret alone, or set {variable_of(at)}"
        ) from error
    except UnicodeDecodeError:
        raise SettingsError(f"{at}_file {path} is no text: it should hold the secret alone") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(held) > MOST_BYTES:
        what = "is empty" if not text else f"has more than {MOST_BYTES:,} bytes"
        raise SettingsError(f"{at}_file {path} {what}: it should hold the secret alone")
    return text
