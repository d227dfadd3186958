"""Amazon SNS over HTTPS: messages signed with a certificate of Amazon, from topics that are listed.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from compactor.service.hints import Delivery
from compactor.service.outbound import OutboundFailedError, OutboundRefusedError
from compactor.service.webhooks.eventbridge import read_event
from compactor.service.webhooks.request import (
    WebhookMalformedError,
    WebhookRefusedError,
    WebhookRequest,
    WebhookUnverifiedError,
    decode,
)
from compactor.service.webhooks.s3_records import read_records

WINDOW_SECONDS = 3600
"""SNS signs a message once and retries for as long as this with its default policy."""

CERTIFICATES_MAX = 16
FETCHES_MAX = 2
"""At once: whoever knows the name of a topic can have us look for a certificate."""

_HOST = re.compile(r"sns\.[a-z0-9-]{1,32}\.amazonaws\.com(?:\.cn)?")
_NOTIFICATION = "Notification"
_CONFIRMATION = "SubscriptionConfirmation"
_SIGNED = {
    _NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    _CONFIRMATION: (
        "Message",
        "MessageId",
        "SubscribeURL",
        "Timestamp",
        "Token",
        "TopicArn",
        "Type",
    ),
}

Fetch = Callable[[str], bytes]
"""Gets an HTTPS URL of a public host without following redirects."""


class SnsBusyError(WebhookRefusedError):
    """What proves the message cannot be fetched now."""

    code = "webhook-busy"
    status = 503


@dataclass(frozen=True, slots=True)
class SnsReceiver:
    """Takes notifications of listed topics and confirms their subscriptions.

    Attributes:
        source: the name under `[webhooks]`.
        topics: names (ARN) of the topics that may send.
        fetch: gets certificates, and confirms.
        catalog: see `EventBridgeReceiver`; a topic may carry events of the bus.
        window_seconds: how old a message may be.
    """

    source: str
    topics: frozenset[str]
    fetch: Fetch
    catalog: str = ""
    window_seconds: int = WINDOW_SECONDS
    _fetching: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(FETCHES_MAX), repr=False, compare=False
    )
    _keys: dict[str, RSAPublicKey] = field(default_factory=dict, repr=False, compare=False)

    def receive(self, request: WebhookRequest) -> Delivery:
        """See `Receiver`. A certificate that is not known yet is fetched meanwhile."""
        # The signature is over fields of the body: nothing but those is read before it is checked.
        message = decode(request.body, dict[str, object])
        fields = {name: value for name, value in message.items() if isinstance(value, str)}
        kind = fields.get("Type", "")
        if kind not in _SIGNED:
            raise WebhookMalformedError(f"messages of type `{kind[:40]}` are not understood")
        self._verify(fields, _SIGNED[kind], request.received_at_ms)
        if kind == _CONFIRMATION:
            self._fetched(_address_of_sns(fields.get("SubscribeURL", "")))
            return Delivery(self.source, fields["MessageId"], ())
        return _delivery(self.source, fields, self.catalog)

    def _verify(self, fields: dict[str, str], names: tuple[str, ...], now_ms: int) -> None:
        if fields.get("TopicArn") not in self.topics:
            raise WebhookUnverifiedError("the topic is not one of the source's")
        if fields.get("SignatureVersion") != "2":
            raise WebhookUnverifiedError(
                "the message is signed with SHA-1",
                hint="set the attribute `SignatureVersion` of the topic to 2",
            )
        if not fields.get("MessageId"):
            raise WebhookUnverifiedError("`MessageId` is missing")
        if abs(_milliseconds(fields.get("Timestamp", "")) - now_ms) > self.window_seconds * 1000:
            raise WebhookUnverifiedError("`Timestamp` is too far from now")
        signed = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
        try:
            signature = base64.b64decode(fields.get("Signature", ""), validate=True)
            key = self._key(_address_of_sns(fields.get("SigningCertURL", "")))
            key.verify(signature, signed.encode(), PKCS1v15(), SHA256())
        except (binascii.Error, InvalidSignature) as error:
            raise WebhookUnverifiedError("the signature is not right") from error

    def _fetched(self, url: str) -> bytes:
        if not self._fetching.acquire(blocking=False):
            raise SnsBusyError("certificates are being fetched: send it again")
        try:
            return self.fetch(url)
        except OutboundFailedError as error:
            raise SnsBusyError("SNS does not answer: send it again") from error
        except OutboundRefusedError as error:
            raise WebhookUnverifiedError("an address in the message is refused") from error
        finally:
            self._fetching.release()

    def _key(self, url: str) -> RSAPublicKey:
        if url not in self._keys:
            try:
                certificate = x509.load_pem_x509_certificate(self._fetched(url))
            except ValueError as error:
                raise WebhookUnverifiedError("the certificate cannot be read") from error
            key = certificate.public_key()
            if not isinstance(key, RSAPublicKey):
                raise WebhookUnverifiedError("the certificate holds no RSA key")
            while len(self._keys) >= CERTIFICATES_MAX:
                self._keys.pop(next(iter(self._keys)))
            self._keys[url] = key
        return self._keys[url]


class _Envelope(msgspec.Struct, frozen=True):
    """What a notification carries: records of S3, or an event of the bus."""

    detail_type: str = msgspec.field(default="", name="detail-type")


def _delivery(source: str, fields: dict[str, str], catalog: str) -> Delivery:
    body = fields.get("Message", "")
    if decode(body, _Envelope).detail_type:
        return read_event(source, body, catalog=catalog)
    return read_records(source, body)


def _address_of_sns(url: str) -> str:
    """Return a URL if it leads to SNS itself: everything else is a door to somewhere inside.

    Raises:
        WebhookUnverifiedError: it does not.
    """
    try:
        parts = urlsplit(url)
        is_plain = parts.port is None and parts.username is None
    except ValueError:
        parts, is_plain = urlsplit(""), False
    if parts.scheme != "https" or not is_plain or not _HOST.fullmatch(parts.netloc):
        raise WebhookUnverifiedError("an address in the message does not lead to SNS")
    return url


def _milliseconds(timestamp: str) -> float:
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError as error:
        raise WebhookUnverifiedError("`Timestamp` is no time") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
