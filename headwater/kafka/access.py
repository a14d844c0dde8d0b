"""Whether a Kafka lets us in: asked once before a client is made, because a client only tells that nothing answers.

kafka-python tries again until its bootstrap timeout whatever the reason is, and keeps the reason to itself. So the
way in is walked here by hand: the port, TLS, the login. What no waiting mends is told in the server's own words and
with the setting to correct.

Before: settings. After: `connections` makes the client. The four requests of Kafka's protocol that this takes are
written here; the login's own exchange is kafka-python's.
"""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path
from typing import Any

from headwater.errors import AccessDenied, SettingsError
from headwater.settings import KafkaSettings

__all__ = ["await_port", "check_access"]

SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36
UNSUPPORTED_MECHANISM, NO_LOGIN_HERE = 33, 34
NO_LOGIN_S = 2.0
"""How long a listener without a login gets to say so."""


def await_port(kafka: KafkaSettings, timeout_s: float) -> None:
    """Return when any address accepts a connection, else raise its OSError: at once where a port is closed."""
    _first_open(kafka.bootstrap, timeout_s)[0].close()


def _refuse_incomplete(kafka: KafkaSettings) -> None:
    """Raises SettingsError for settings that contradict one another or name a file that cannot be used."""
    if kafka.security_protocol.startswith("SASL"):
        wanted = {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_username": kafka.sasl_username,
            "sasl_password": kafka.sasl_password,
        }
        missing = [name for name, value in wanted.items() if value is None]
        if missing:
            raise SettingsError(
                f"kafka.security_protocol is {kafka.security_protocol}, and nothing is set for "
                f"{', '.join(f'kafka.{name}' for name in missing)}. Set "
                f"{', '.join(f'HEADWATER_KAFKA__{name.upper()}' for name in missing)}, or another security_protocol."
            )
    if kafka.security_protocol.endswith("SSL"):
        _tls(kafka)


def check_access(kafka: KafkaSettings, timeout_s: float) -> None:
    """Knock at the first broker that has an open port, and log in.

    Parameters
        kafka: where, and how to log in.
        timeout_s: for each step.

    Raises
        SettingsError: TLS or a login is wanted and not set, or the other way round, or a file cannot be used.
        AccessDenied: the certificate is not trusted, or the login is refused, with the server's reason.
        OSError: no port is open, or nobody speaks there; this may pass.
    """
    _refuse_incomplete(kafka)
    try:
        _walk_in(kafka, timeout_s)
    except ssl.SSLEOFError:  # a plain port hangs up on TLS; so does a broker that ends at that very moment
        try:
            _walk_in(kafka, timeout_s)
        except ssl.SSLEOFError as error:
            raise _no_tls(kafka, "it hangs up") from error


def _walk_in(kafka: KafkaSettings, timeout_s: float) -> None:
    link, host = _first_open(kafka.bootstrap, timeout_s)
    try:
        if kafka.security_protocol.endswith("SSL"):
            link = _secured(link, host, kafka)
        if kafka.security_protocol.startswith("SASL"):
            _log_in(link, host, kafka)
        else:
            _refuse_wanted_login(link, kafka)
    except ConnectionError:
        link.close()
        if not kafka.security_protocol.endswith("SSL") and _speaks_tls(kafka, timeout_s):
            raise SettingsError(
                f"Kafka at {kafka.bootstrap} speaks TLS on that port. Set kafka.security_protocol to "
                f"{'SASL_SSL' if kafka.security_protocol.startswith('SASL') else 'SSL'}, or kafka.bootstrap to a "
                "plain port."
            ) from None
        if kafka.security_protocol.startswith("SASL"):
            raise
        # it does not know the question, which the embedded broker does not: the client finds out
    finally:
        link.close()


def _speaks_tls(kafka: KafkaSettings, timeout_s: float) -> bool:
    """Whether a port that hung up on a plain question takes part in TLS; whom it claims to be does not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    link, host = _first_open(kafka.bootstrap, timeout_s)
    with link:
        try:
            context.wrap_socket(link, server_hostname=host).close()
        except OSError:
            return False
    return True


def _first_open(bootstrap: str, timeout_s: float) -> tuple[socket.socket, str]:
    """A connection to the first address that takes one, and its host. Raises OSError, at once for a closed port.

    kafka-python itself keeps trying for the whole of its bootstrap timeout, and leaves sockets open when it gives up.
    """
    refused: OSError = OSError("no host:port is given")
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        host = host.strip("[]")
        try:
            return socket.create_connection((host, int(port)), timeout=timeout_s), host
        except ValueError:
            refused = OSError(f"{address!r} is not host:port")
        except OSError as error:
            refused = error
    raise refused


def _tls(kafka: KafkaSettings) -> ssl.SSLContext:
    """As kafka-python makes it. Raises SettingsError for a file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not kafka.ssl_cafile:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(kafka.ssl_cafile)
    except OSError as error:  # ssl.SSLError is one
        there = Path(kafka.ssl_cafile).is_file()
        why = "holds no certificates in PEM form" if there and isinstance(error, ssl.SSLError) else f"{error.strerror}"
        raise SettingsError(
            f"kafka.ssl_cafile {kafka.ssl_cafile}: {why}. Name the PEM file of the authority that signed the brokers' "
            "certificates."
        ) from error
    return context


def _secured(link: socket.socket, host: str, kafka: KafkaSettings) -> ssl.SSLSocket:
    try:
        return _tls(kafka).wrap_socket(link, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        trusted = kafka.ssl_cafile or "this machine's own authorities"
        raise AccessDenied(
            f"the certificate of Kafka at {kafka.bootstrap} is not trusted ({error.verify_message}; kafka.ssl_cafile: "
            f"{trusted}). Set kafka.ssl_cafile to the PEM file of the authority that signed it, and kafka.bootstrap to "
            "a name that is in it."
        ) from error
    except ssl.SSLEOFError:
        raise
    except ssl.SSLError as error:
        raise _no_tls(kafka, error.reason or str(error)) from error


def _no_tls(kafka: KafkaSettings, why: str) -> AccessDenied:
    return AccessDenied(
        f"Kafka at {kafka.bootstrap} does not take part in TLS ({why}). Is that port a plain one? "
        f"kafka.security_protocol is {kafka.security_protocol}; PLAINTEXT and SASL_PLAINTEXT speak no TLS."
    )


def _log_in(link: socket.socket, host: str, kafka: KafkaSettings) -> None:
    from kafka.net.sasl import get_sasl_mechanism

    wanted = kafka.sasl_mechanism or ""
    code, offered = _handshake(link, wanted, kafka)
    if code == NO_LOGIN_HERE:
        raise SettingsError(
            f"Kafka at {kafka.bootstrap} wants no login on that port. Set kafka.security_protocol to "
            f"{kafka.security_protocol.replace('SASL_', '')}, or kafka.bootstrap to the port that does."
        )
    if code == UNSUPPORTED_MECHANISM or wanted not in offered:
        raise SettingsError(
            f"Kafka at {kafka.bootstrap} does not know kafka.sasl_mechanism {wanted}; it knows "
            f"{', '.join(offered) or 'none'}. Set one of them."
        )
    password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
    login: Any = get_sasl_mechanism(wanted)(
        host=host,
        security_protocol=kafka.security_protocol,
        sasl_mechanism=wanted,
        sasl_plain_username=kafka.sasl_username,
        sasl_plain_password=password,
    )
    while not login.is_done():
        token = login.auth_bytes()
        answer = _asked(link, SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token, kafka)
        (code,) = struct.unpack(">h", answer[:2])
        reason, rest = _text(answer[2:])
        if code:
            raise _login_refused(kafka, reason or f"error {code}")
        try:
            login.receive(rest[4:])
        except Exception as error:  # the mechanism's own check of what the server knows
            raise _login_refused(kafka, f"its proof is wrong: {error}") from error
    if not login.is_authenticated():
        raise _login_refused(kafka, "it gave no reason")


def _login_refused(kafka: KafkaSettings, reason: str) -> AccessDenied:
    return AccessDenied(
        f"Kafka at {kafka.bootstrap} refuses user {kafka.sasl_username!r} ({kafka.sasl_mechanism}: {reason}). Correct "
        "kafka.sasl_username and kafka.sasl_password (HEADWATER_KAFKA__SASL_PASSWORD)."
    )


def _refuse_wanted_login(link: socket.socket, kafka: KafkaSettings) -> None:
    """A listener that wants a login would close the connection at the first question, without a word."""
    link.settimeout(min(NO_LOGIN_S, link.gettimeout() or NO_LOGIN_S))
    try:
        code, offered = _handshake(link, "PLAIN", kafka)
    except OSError as error:
        if isinstance(error, ssl.SSLError):
            raise AccessDenied(
                f"Kafka at {kafka.bootstrap} breaks TLS off ({error.reason or error}): it wants a certificate of ours, "
                "which Headwater does not have. Use a port that wants a login instead."
            ) from error
        if isinstance(error, ConnectionError):
            raise
        return  # slow: the client finds out
    if code in (0, UNSUPPORTED_MECHANISM):
        raise SettingsError(
            f"Kafka at {kafka.bootstrap} wants a login on that port. Set kafka.security_protocol to "
            f"{'SASL_SSL' if kafka.security_protocol == 'SSL' else 'SASL_PLAINTEXT'}, kafka.sasl_mechanism to one of "
            f"{', '.join(offered)}, kafka.sasl_username and kafka.sasl_password."
        )


def _handshake(link: socket.socket, mechanism: str, kafka: KafkaSettings) -> tuple[int, list[str]]:
    """What the broker says to a mechanism: an error code, and those that it knows."""
    name = mechanism.encode()
    answer = _asked(link, SASL_HANDSHAKE, 1, struct.pack(">h", len(name)) + name, kafka)
    code, count = struct.unpack(">hi", answer[:6])
    offered, rest = [], answer[6:]
    for _ in range(min(max(count, 0), 100)):
        found, rest = _text(rest)
        offered.append(found)
    return code, offered


def _asked(link: socket.socket, api: int, version: int, body: bytes, kafka: KafkaSettings) -> bytes:
    """The body of the answer to one request. Raises OSError."""
    client = b"headwater"
    head = struct.pack(">hhih", api, version, 1, len(client)) + client
    link.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    size = _received(link, 4)
    (length,) = struct.unpack(">i", size)
    if not 4 <= length <= 1 << 20:
        raise ConnectionError(f"what answers at {kafka.bootstrap} is no Kafka")
    return _received(link, length)[4:]


def _received(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = link.recv(size - len(data))
        if not piece:
            raise ConnectionError("the connection was closed without an answer")
        data += piece
    return data


def _text(data: bytes) -> tuple[str, bytes]:
    """A string of Kafka's protocol, and what follows it."""
    (length,) = struct.unpack(">h", data[:2])
    end = 2 + max(0, length)
    return data[2:end].decode(errors="replace"), data[end:]
