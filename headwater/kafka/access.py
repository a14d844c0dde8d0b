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
from typing import Any

from headwater.errors import AccessDenied, SettingsError
from headwater.kafka.login import sasl_arguments
from headwater.security import KafkaLogin, kafka_login
from headwater.settings import KafkaSettings

__all__ = ["await_port", "check_access"]

SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36
UNSUPPORTED_MECHANISM, NO_LOGIN_HERE = 33, 34
NO_LOGIN_S = 2.0
"""How long a listener without a login gets to say so."""


def await_port(kafka: KafkaSettings, timeout_s: float) -> None:
    """Return when any address accepts a connection, else raise its OSError: at once where a port is closed."""
    _first_open(kafka.bootstrap, timeout_s)[0].close()


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
    login = kafka_login(kafka)
    try:
        _walk_in(kafka, login, timeout_s)
    except ssl.SSLEOFError:  # a plain port hangs up on TLS; so does a broker that ends at that very moment
        try:
            _walk_in(kafka, login, timeout_s)
        except ssl.SSLEOFError as error:
            raise _no_tls(kafka, "it hangs up") from error


def _walk_in(kafka: KafkaSettings, login: KafkaLogin, timeout_s: float) -> None:
    link, host = _first_open(kafka.bootstrap, timeout_s)
    try:
        if login.context is not None:
            link = _secured(link, host, kafka, login.context)
        if login.mechanism is not None:
            _log_in(link, host, kafka, login)
        else:
            _refuse_wanted_login(link, kafka)
    except ssl.SSLEOFError:
        raise
    except ssl.SSLError as error:  # with TLS 1.3 its word on our certificate comes after the handshake
        raise AccessDenied(
            f"Kafka at {kafka.bootstrap} breaks TLS off ({error.reason or error}): {_own_certificate(kafka)}"
        ) from error
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


def _secured(link: socket.socket, host: str, kafka: KafkaSettings, context: ssl.SSLContext) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(link, server_hostname=host)
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
        if "_ALERT_" in (error.reason or ""):  # it speaks TLS, and ends it
            raise
        raise _no_tls(kafka, error.reason or str(error)) from error


def _no_tls(kafka: KafkaSettings, why: str) -> AccessDenied:
    return AccessDenied(
        f"Kafka at {kafka.bootstrap} does not take part in TLS ({why}). Is that port a plain one? "
        f"kafka.security_protocol is {kafka.security_protocol}; PLAINTEXT and SASL_PLAINTEXT speak no TLS."
    )


def _log_in(link: socket.socket, host: str, kafka: KafkaSettings, login: KafkaLogin) -> None:
    from kafka.net.sasl import get_sasl_mechanism

    wanted = login.mechanism or ""
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
    exchange: Any = get_sasl_mechanism(wanted)(
        host=host, security_protocol=kafka.security_protocol, **sasl_arguments(login)
    )
    while not exchange.is_done():
        token = exchange.auth_bytes()
        answer = _asked(link, SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token, kafka)
        (code,) = struct.unpack(">h", answer[:2])
        reason, rest = _text(answer[2:])
        if code:
            raise _login_refused(kafka, reason or f"error {code}")
        try:
            exchange.receive(rest[4:])
        except Exception as error:  # the mechanism's own check of what the server knows
            raise _login_refused(kafka, f"its proof is wrong: {error}") from error
    if not exchange.is_authenticated():
        raise _login_refused(kafka, "it gave no reason")


def _login_refused(kafka: KafkaSettings, reason: str) -> AccessDenied:
    if kafka.sasl_username is None:
        return AccessDenied(
            f"Kafka at {kafka.bootstrap} refuses our token ({kafka.sasl_mechanism}: {reason}). Correct where it comes "
            "from (kafka.sasl_token_file, kafka.sasl_token_url, ...): its audience, its scope, its time."
        )
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
        if isinstance(error, (ConnectionError, ssl.SSLError)):
            raise
        return  # slow: the client finds out
    if code in (0, UNSUPPORTED_MECHANISM):
        raise SettingsError(
            f"Kafka at {kafka.bootstrap} wants a login on that port. Set kafka.security_protocol to "
            f"{'SASL_SSL' if kafka.security_protocol == 'SSL' else 'SASL_PLAINTEXT'}, kafka.sasl_mechanism to one of "
            f"{', '.join(offered)}, kafka.sasl_username and kafka.sasl_password."
        )


def _own_certificate(kafka: KafkaSettings) -> str:
    """What to do about a server that ends TLS after it has seen whether we have a certificate."""
    if kafka.ssl_certfile is None:
        return (
            "it wants a certificate of ours. Set kafka.ssl_certfile and kafka.ssl_keyfile, or use a port that wants a "
            "login."
        )
    return (
        f"it does not trust our certificate, kafka.ssl_certfile {kafka.ssl_certfile}. Name one of an authority that "
        "the brokers trust, and that has not run out."
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
