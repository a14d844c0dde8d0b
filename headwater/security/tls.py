"""TLS of a client: whom it trusts and, where a server wants to know, who it is."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import NamedTuple

from headwater.errors import SettingsError

__all__ = ["TlsFiles", "broken_off", "tls_context"]

WORD_S = 1.0
"""How long a server gets to say why it ends TLS."""


class TlsFiles(NamedTuple):
    """What the `ssl_` settings of one section say.

    Fields
        section: `kafka` or `redis`, for messages.
        cafile: PEM of the authorities; None trusts the machine's own.
        certfile, keyfile: PEM of the client's certificate and key; the key may stand in the first file.
        key_password: what the key is encrypted with.
        check_hostname: whether the server's certificate must name the host.
        ca_setting: what the message names for the first.
    """

    section: str
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    key_password: str | None = None
    check_hostname: bool = True
    ca_setting: str = "ssl_cafile"


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A context of at least TLS 1.2 that verifies the server's certificate.

    Raises
        SettingsError: a file is missing or is no PEM, a key has no certificate, or its password does not open it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = files.check_hostname
    _trust(context, files)
    if files.certfile is not None:
        _present(context, files)
    elif files.keyfile is not None or files.key_password is not None:
        given = "ssl_keyfile" if files.keyfile is not None else "ssl_keyfile_password"
        raise SettingsError(
            f"{files.section}.{given} is set, and {files.section}.ssl_certfile is not: a key is of no use without its "
            "certificate. Set both, or neither"
        )
    return context


def broken_off(context: ssl.SSLContext, host: str, port: int, timeout_s: float) -> ssl.SSLError | None:
    """Why a server ends TLS, in its own words; None where it does not, or says nothing.

    With TLS 1.3 its word on our certificate comes after the handshake, and who writes meanwhile gets a broken
    connection in its place. So nothing is written here.
    """
    try:
        with (
            socket.create_connection((host, port), timeout_s) as link,
            context.wrap_socket(link, server_hostname=host) as secured,
        ):
            secured.settimeout(min(timeout_s, WORD_S))
            secured.recv(1)
    except ssl.SSLEOFError:
        return None
    except ssl.SSLError as error:
        return error if "_ALERT_" in (error.reason or "") else None
    except OSError:
        return None
    return None


def _trust(context: ssl.SSLContext, files: TlsFiles) -> None:
    if not files.cafile:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(files.cafile)
    except OSError as error:  # ssl.SSLError is one
        whose = "the server's certificate" if files.section != "kafka" else "the brokers' certificates"
        raise SettingsError(
            f"{files.section}.{files.ca_setting} {files.cafile}: {_why(files.cafile, error, 'certificates')}. Name the "
            f"PEM file of the authority that signed {whose}."
        ) from error


def _present(context: ssl.SSLContext, files: TlsFiles) -> None:
    certfile, keyfile = files.certfile, files.keyfile
    assert certfile is not None
    for setting, named in (("ssl_certfile", certfile), ("ssl_keyfile", keyfile)):
        if named is not None:
            try:
                with open(named, "rb"):
                    pass
            except OSError as error:
                raise SettingsError(
                    f"{files.section}.{setting} {named}: {error.strerror or error}. Name a PEM file that this process "
                    "may read"
                ) from error
    try:
        # a function: without one, OpenSSL asks the terminal for the password
        context.load_cert_chain(certfile, keyfile, lambda: files.key_password or "")
    except (OSError, ValueError) as error:
        raise SettingsError(_unfit(files, str(error))) from error


def _unfit(files: TlsFiles, why: str) -> str:
    section, certfile, keyfile = files.section, files.certfile, files.keyfile or files.certfile
    assert certfile is not None
    assert keyfile is not None
    if "KEY_VALUES_MISMATCH" in why:
        return f"{section}.ssl_keyfile {keyfile} is not the key of {section}.ssl_certfile {certfile}: name its own"
    texts = {path: Path(path).read_text(errors="replace") for path in (certfile, keyfile)}
    if "BEGIN CERTIFICATE" not in texts[certfile]:
        return f"{section}.ssl_certfile {certfile} holds no certificate in PEM form: name the client's"
    if "PRIVATE KEY" not in texts[keyfile]:
        return (
            f"{section}.{'ssl_keyfile' if files.keyfile else 'ssl_certfile'} {keyfile} holds no key in PEM form: name "
            f"the certificate's own in {section}.ssl_keyfile"
        )
    if "ENCRYPTED" in texts[keyfile]:
        return (
            f"the key in {keyfile} is encrypted, and {section}.ssl_keyfile_password "
            f"{'is not set' if files.key_password is None else 'does not open it'}: set it, or "
            f"{section}.ssl_keyfile_password_file"
        )
    return f"{section}.ssl_certfile {certfile} and key {keyfile} cannot be used ({why}): name a PEM pair"


def _why(path: str, error: OSError, what: str) -> str:
    if Path(path).is_file() and isinstance(error, ssl.SSLError):
        return f"holds no {what} in PEM form"
    return f"{error.strerror or error}"
