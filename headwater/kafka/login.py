"""A login in kafka-python's words."""

from __future__ import annotations

from typing import Any

from headwater.security import KafkaLogin, Tokens

__all__ = ["sasl_arguments"]


def sasl_arguments(login: KafkaLogin) -> dict[str, Any]:
    """The arguments of kafka-python's clients, and of its mechanisms, that log in; none where nobody does."""
    if login.mechanism is None:
        return {}
    if login.tokens is not None:
        return {"sasl_mechanism": login.mechanism, "sasl_oauth_token_provider": _provider(login.tokens)}
    return {
        "sasl_mechanism": login.mechanism,
        "sasl_plain_username": login.username,
        "sasl_plain_password": login.password,
    }


def _provider(tokens: Tokens) -> Any:
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class KafkaPythonTokens(AbstractTokenProvider):  # type: ignore[misc]
        def token(self) -> str:
            return tokens.token()

    return KafkaPythonTokens()
