"""Tokens of OAUTHBEARER: a value, a file that something else renews, client credentials, or a signature for AWS MSK.

Asked for at every login, so that a new connection has one that is valid; one of a URL is kept until a fifth of its time
is left. Clients of kafka-python and aiokafka wrap this, each in the class that it wants.
"""

from __future__ import annotations

import base64
import contextlib
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

import orjson

from headwater.errors import AccessDenied, SettingsError, Unavailable
from headwater.security.secrets import read_secret, variable_of
from headwater.security.tls import TlsFiles, tls_context
from headwater.settings import KafkaSettings

__all__ = ["SOURCES", "Tokens"]

SOURCES = ("sasl_token", "sasl_token_file", "sasl_token_url")
"""The settings that each name a source of tokens."""

ANSWER_S = 10.0
KEPT_SHARE = 0.8
MOST_ANSWER_BYTES = 256 * 1024


class Tokens:
    """Where a Kafka client's tokens come from. Thread-safe.

    Parameters
        kafka: its mechanism is OAUTHBEARER or AWS_MSK_IAM.

    Raises
        SettingsError: no source is named, or several are, or one lacks what it needs.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._lock = threading.Lock()
        self._kept = ""
        self._until = 0.0
        self._next: Callable[[], str] = self._source()

    def token(self) -> str:
        """One that is valid now.

        Raises
            SettingsError: a file of it cannot be read.
            AccessDenied: who gives them refuses us.
            Unavailable: who gives them does not answer.
        """
        return self._next()

    def _source(self) -> Callable[[], str]:
        kafka = self._kafka
        if kafka.sasl_mechanism == "AWS_MSK_IAM":
            return self._signed()
        given = [name for name in SOURCES if getattr(kafka, name) is not None]
        if len(given) != 1:
            named = " and ".join(f"kafka.{name}" for name in given)
            raise SettingsError(
                f"kafka.sasl_mechanism is OAUTHBEARER, and {f'{named} are set' if given else 'no token is named'}: set "
                f"one of {', '.join(f'kafka.{name}' for name in SOURCES)}"
            )
        if kafka.sasl_token_url is None:
            read_secret("kafka", kafka, "sasl_token")
            return lambda: read_secret("kafka", kafka, "sasl_token") or ""
        return self._asked(kafka.sasl_token_url)

    def _asked(self, url: str) -> Callable[[], str]:
        """Client credentials (RFC 6749, 4.4): id and secret by HTTP Basic, as every authorisation server takes them."""
        kafka = self._kafka
        parts = urllib.parse.urlsplit(url)
        loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
            raise SettingsError(
                "kafka.sasl_token_url is no https:// URL: the secret would go over the network as it is. Set "
                f"{variable_of('kafka.sasl_token_url')}=https://HOST/PATH"
            )
        if parts.username or parts.password or parts.query:
            raise SettingsError(
                "kafka.sasl_token_url has more than host and path: give id and secret as kafka.sasl_client_id and "
                "kafka.sasl_client_secret"
            )
        secret = read_secret("kafka", kafka, "sasl_client_secret")
        if kafka.sasl_client_id is None or secret is None:
            raise SettingsError(
                "kafka.sasl_token_url is set, and kafka.sasl_client_id or kafka.sasl_client_secret is not: set both"
            )
        context = tls_context(TlsFiles("kafka", kafka.sasl_token_cafile, ca_setting="sasl_token_cafile"))
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

        def ask() -> str:
            with self._lock:
                if time.monotonic() < self._until:
                    return self._kept
                answer = _answer(
                    _request(url, kafka, read_secret("kafka", kafka, "sasl_client_secret") or ""), context, where
                )
                token = answer.get("access_token")
                if not isinstance(token, str) or not token:
                    raise AccessDenied(
                        f"{where} (kafka.sasl_token_url) answers without an access_token: is it the right URL?"
                    )
                self._kept = token
                lasts_s = answer.get("expires_in")
                known = isinstance(lasts_s, (int, float)) and not isinstance(lasts_s, bool)
                self._until = time.monotonic() + (KEPT_SHARE * float(lasts_s) if known else 0.0)  # type: ignore[arg-type]
                return token

        return ask

    def _signed(self) -> Callable[[], str]:
        region = self._kafka.aws_region
        if region is None:
            raise SettingsError(
                f"kafka.sasl_mechanism is AWS_MSK_IAM, and kafka.aws_region is not set: set "
                f"{variable_of('kafka.aws_region')}"
            )
        try:
            from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
        except ImportError as error:
            raise SettingsError(
                "kafka.sasl_mechanism is AWS_MSK_IAM, which takes a package that is not here: "
                "pip install 'headwater[msk]'"
            ) from error

        def sign() -> str:
            try:
                token, _ = MSKAuthTokenProvider.generate_auth_token(region)
            except Exception as error:  # botocore's own tree, which this must not import
                raise AccessDenied(
                    f"no token for AWS MSK can be signed ({type(error).__name__}: {error}). Give this process AWS "
                    "credentials: a role, AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ) from error
            return str(token)

        return sign


def _request(url: str, kafka: KafkaSettings, secret: str) -> urllib.request.Request:
    quoted = f"{urllib.parse.quote(kafka.sasl_client_id or '', safe='')}:{urllib.parse.quote(secret, safe='')}"
    fields = {"grant_type": "client_credentials"} | ({"scope": kafka.sasl_scope} if kafka.sasl_scope else {})
    headers = {
        "Authorization": f"Basic {base64.b64encode(quoted.encode()).decode()}",
        "Accept": "application/json",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return urllib.request.Request(url, urllib.parse.urlencode(fields).encode(), headers, method="POST")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The secret goes to the host of the settings and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _answer(request: urllib.request.Request, context: Any, where: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect)
    try:
        with opener.open(request, timeout=ANSWER_S) as got:
            answer = orjson.loads(got.read(MOST_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            told = _reason(error.read(MOST_ANSWER_BYTES))
        text = f"{where} (kafka.sasl_token_url) gives no token: HTTP {error.code}{told}"
        if error.code >= 500 or error.code == 429:
            raise Unavailable(f"{text}. Try again later") from error
        raise AccessDenied(
            f"{text}. Correct kafka.sasl_client_id, kafka.sasl_client_secret or kafka.sasl_scope"
        ) from error
    except OSError as error:
        raise Unavailable(f"{where} (kafka.sasl_token_url) does not answer ({error})") from error
    except orjson.JSONDecodeError:
        answer = None
    return answer if isinstance(answer, dict) else {}


def _reason(body: bytes) -> str:
    """The error's word of RFC 6749, 5.2; nothing else of a body that may quote what was sent."""
    with contextlib.suppress(orjson.JSONDecodeError, AttributeError):
        word = orjson.loads(body).get("error")
        if isinstance(word, str) and word.replace("_", "").isalnum() and len(word) < 60:
            return f", {word}"
    return ""
