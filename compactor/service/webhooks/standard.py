"""Standard Webhooks: signed over id, time and body, within a window, with several secrets.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import msgspec

from compactor.service.hints import Delivery, Hint
from compactor.service.webhooks.request import (
    WebhookMalformedError,
    WebhookRequest,
    WebhookUnverifiedError,
    decode,
)
from compactor.service.webhooks.secret_values import is_any_of, signatures

WINDOW_SECONDS = 300
"""How far the sender's clock, and its delivery, may be from ours."""

ID_CHARACTERS_MAX = 256
SIGNATURES_MAX = 16
"""In one header: a sender that rotates keys signs with two or three."""

_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class StandardReceiver:
    """Takes events whose `data` names a table.

    Attributes:
        source: the name under `[webhooks]`.
        secrets: any of them may have signed; two while keys are rotated.
        window_seconds: how old or new the signed time may be.
    """

    source: str
    secrets: tuple[bytes, ...]
    window_seconds: int = WINDOW_SECONDS

    def receive(self, request: WebhookRequest) -> Delivery:
        """See `Receiver`."""
        delivery_id = self._verified_id(request)
        event = decode(request.body, _Event)
        data = event.data
        if (data.table is None) == (data.location is None):
            raise WebhookMalformedError("`data` must name a `table` or a `location`")
        hint = Hint(
            target=data.table,
            location=data.location,
            snapshot_id=None if data.snapshot_id is None else str(data.snapshot_id),
            operation=data.operation,
            job_id=data.job_id,
            reason=f"event {event.type}" if event.type else "event",
        )
        return Delivery(self.source, delivery_id, (hint,))

    def _verified_id(self, request: WebhookRequest) -> str:
        delivery_id = request.headers.get("webhook-id", "")
        timestamp = request.headers.get("webhook-timestamp", "")
        if not 0 < len(delivery_id) <= ID_CHARACTERS_MAX:
            raise WebhookUnverifiedError("`webhook-id` is missing or too long")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise WebhookUnverifiedError("`webhook-timestamp` is no number of seconds")
        if abs(int(timestamp) - request.received_at_ms / 1000) > self.window_seconds:
            raise WebhookUnverifiedError("`webhook-timestamp` is too far from now")
        signed = b".".join((delivery_id.encode(), timestamp.encode(), request.body))
        presented = _presented(request.headers.get("webhook-signature", ""))
        if not is_any_of(presented, signatures(self.secrets, signed)):
            raise WebhookUnverifiedError("no signature is right")
        return delivery_id


class _Data(msgspec.Struct, frozen=True):
    table: str | None = None
    location: str | None = None
    snapshot_id: str | int | None = None
    operation: str | None = None
    job_id: str | None = None


class _Event(msgspec.Struct, frozen=True):
    data: _Data
    type: str = ""


def decode_secret(text: str) -> bytes:
    """Return the bytes of a secret written as `whsec_` and base64.

    Raises:
        ValueError: it is not written so, or holds fewer than 24 bytes or more than 64.
    """
    if not text.startswith(_PREFIX):
        raise ValueError(f"it does not begin with `{_PREFIX}`")
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("what follows `whsec_` is not base64") from error
    if not 24 <= len(secret) <= 64:
        raise ValueError(f"it holds {len(secret)} bytes, not 24 to 64")
    return secret


def _presented(header: str) -> list[bytes]:
    found = []
    for part in header.split(" ")[:SIGNATURES_MAX]:
        version, _, text = part.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(text, validate=True))
            except binascii.Error:
                continue
    return found
