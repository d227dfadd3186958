"""Comparing what a sender presents with secrets, in a time that does not depend on them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from compactor.service.webhooks.request import WebhookUnverifiedError


def is_any_of(presented: Iterable[bytes], expected: Iterable[bytes]) -> bool:
    """Tell whether something presented is among what is expected; every pair is compared."""
    wanted = list(expected)
    equal = [hmac.compare_digest(one, other) for one in presented for other in wanted]
    return any(equal)


def signatures(secrets: Iterable[bytes], signed: bytes) -> list[bytes]:
    """Return the HMAC-SHA256 of a text under each secret."""
    return [hmac.digest(secret, signed, hashlib.sha256) for secret in secrets]


def check_token(headers: Mapping[str, str], tokens: Iterable[bytes]) -> None:
    """Check a token in `Authorization: Bearer`, or in `X-Api-Key`, where EventBridge can put it.

    Raises:
        WebhookUnverifiedError: there is none, or another one.
    """
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    presented = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    # Digests are compared: of the token itself, a comparison would tell the length.
    digest = hashlib.sha256(presented.encode()).digest()
    if not is_any_of([digest], (hashlib.sha256(token).digest() for token in tokens)):
        raise WebhookUnverifiedError("the token is missing or is not one of the source's")
