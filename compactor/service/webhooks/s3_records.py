"""Notifications of object stores: the records of S3, of Ceph's gateway and of MinIO's kin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote_plus

import msgspec

from compactor.service.hints import Delivery, Hint
from compactor.service.webhooks.objects import is_commit
from compactor.service.webhooks.request import (
    EVENTS_MAX,
    WebhookRequest,
    WebhookUnverifiedError,
    decode,
    identity,
)
from compactor.service.webhooks.secret_values import check_token, is_any_of

_CEPH = "ceph:s3"


@dataclass(frozen=True, slots=True)
class S3Receiver:
    """Takes the records that a store sends itself.

    Amazon sends them through SNS, EventBridge or SQS only; Ceph and MinIO post them. Ceph cannot
    send a header: it puts the secret into every record, as `opaqueData`, so that such a body is
    decoded before its sender is proved.

    Attributes:
        source: the name under `[webhooks]`.
        tokens: any of them proves the sender.
    """

    source: str
    tokens: tuple[bytes, ...]

    def receive(self, request: WebhookRequest) -> Delivery:
        """See `Receiver`."""
        if "authorization" in request.headers or "x-api-key" in request.headers:
            check_token(request.headers, self.tokens)
            return read_records(self.source, request.body)
        event = decode(request.body, S3Event)
        presented = {record.opaque_data.encode() for record in event.records}
        if len(presented) != 1 or not is_any_of(presented, self.tokens):
            raise WebhookUnverifiedError("neither a token nor `opaqueData` proves the sender")
        return delivery_of(self.source, event)


class _Bucket(msgspec.Struct, frozen=True):
    name: str


class _Object(msgspec.Struct, frozen=True):
    key: str
    sequencer: str = ""
    etag: str = msgspec.field(default="", name="eTag")
    version_id: str | None = msgspec.field(default=None, name="versionId")


class _Entity(msgspec.Struct, frozen=True):
    bucket: _Bucket
    object: _Object


class S3Record(msgspec.Struct, frozen=True):
    """One record, as far as it is read."""

    s3: _Entity
    event_name: str = msgspec.field(name="eventName")
    event_time: str = msgspec.field(default="", name="eventTime")
    event_source: str = msgspec.field(default="", name="eventSource")
    event_id: str = msgspec.field(default="", name="eventId")
    opaque_data: str = msgspec.field(default="", name="opaqueData")


_Records = Annotated[tuple[S3Record, ...], msgspec.Meta(max_length=EVENTS_MAX)]


class S3Event(msgspec.Struct, frozen=True):
    """A message; that of a test, which comes first, has no records."""

    records: _Records = msgspec.field(default=(), name="Records")
    event: str = msgspec.field(default="", name="Event")


def read_records(source: str, body: bytes | str) -> Delivery:
    """Read a message of records that was verified.

    Raises:
        WebhookMalformedError: it is none.
    """
    return delivery_of(source, decode(body, S3Event))


def delivery_of(source: str, event: S3Event) -> Delivery:
    """Return what a message tells; its id follows from what its records say, not from the message.

    Stores send a record again in another message.
    """
    parts: list[str] = []
    for record in event.records:
        entity = record.s3
        moment = entity.object.sequencer or record.event_id or record.event_time
        parts += [entity.bucket.name, entity.object.key, entity.object.etag, moment]
        parts.append(record.event_name)
    return Delivery(source, identity(*parts), tuple(_hints(event)))


def _hints(event: S3Event) -> Iterator[Hint]:
    for record in event.records:
        key = _key(record)
        if "ObjectCreated" not in record.event_name or not is_commit(key):
            continue
        yield Hint(
            target=None,
            location=f"s3://{record.s3.bucket.name}/{key}",
            snapshot_id=None,
            operation=None,
            job_id=None,
            reason=f"object {key.rpartition('/')[2]} was written",
        )


def _key(record: S3Record) -> str:
    """Return the key itself: Amazon and MinIO encode it as forms are, Ceph does not."""
    key = record.s3.object.key
    return key if record.event_source == _CEPH else unquote_plus(key)
