"""A request as a receiver sees it, the errors that refuse one, and the reading of its body."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from compactor.errors import CompactorError
from compactor.service.hints import Delivery

EVENTS_MAX = 1000
"""In one request: senders tell of one or of a few, and every table told of costs a look."""

_Body = TypeVar("_Body")


class WebhookRefusedError(CompactorError):
    """A delivery is not taken in; nothing was recorded but the refusal.

    Attributes:
        status: the HTTP status of the answer.
    """

    code = "webhook-refused"
    status = 400


class WebhookUnverifiedError(WebhookRefusedError):
    """Nobody who knows the secret sent this now: forged, replayed too late, or misconfigured."""

    code = "webhook-unverified"
    status = 401


class WebhookMalformedError(WebhookRefusedError):
    """The sender is who it must be, but what it says cannot be read."""

    code = "webhook-malformed"
    status = 400


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request before anything in it is believed.

    Attributes:
        path: the path of its URL, percent-encoded as it came.
        headers: by lower-case name.
        body: the bytes that signatures are made over.
        received_at_ms: milliseconds since the epoch, by our clock.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    received_at_ms: int


class Receiver(Protocol):
    """Turns requests of one source into deliveries."""

    @property
    def source(self) -> str:
        """The name under `[webhooks]`."""
        ...

    def receive(self, request: WebhookRequest) -> Delivery:
        """Verify the raw request, then read it.

        Raises:
            WebhookUnverifiedError: it does not prove who sent it, or not when.
            WebhookMalformedError: it cannot be read.
        """
        ...


def identity(*parts: str) -> str:
    """Return an id of bounded length that follows from what happened, whoever tells it again."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def decode(body: bytes | str, kind: type[_Body]) -> _Body:
    """Decode JSON into a declared type; what the type does not name is passed over.

    Raises:
        WebhookMalformedError: it is not JSON, nested too deeply, or of another shape.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WebhookMalformedError(f"the body cannot be read: {error}") from error
