"""Amazon EventBridge: objects of S3, and changes of tables in Glue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

from compactor.service.hints import Delivery, Hint
from compactor.service.webhooks.objects import is_commit
from compactor.service.webhooks.request import (
    EVENTS_MAX,
    WebhookMalformedError,
    WebhookRequest,
    decode,
    identity,
)
from compactor.service.webhooks.secret_values import check_token


@dataclass(frozen=True, slots=True)
class EventBridgeReceiver:
    """Takes what an API destination posts, with its key in a header.

    Attributes:
        source: the name under `[webhooks]`.
        tokens: any of them proves the sender.
        catalog: the catalog of Glue's tables among the targets; empty when none are expected.
    """

    source: str
    tokens: tuple[bytes, ...]
    catalog: str = ""

    def receive(self, request: WebhookRequest) -> Delivery:
        """See `Receiver`."""
        check_token(request.headers, self.tokens)
        return read_event(self.source, request.body, catalog=self.catalog)


_Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=EVENTS_MAX)]


class _Bucket(msgspec.Struct, frozen=True):
    name: str


class _Object(msgspec.Struct, frozen=True):
    key: str
    etag: str = ""
    sequencer: str = ""


class _Detail(msgspec.Struct, frozen=True):
    bucket: _Bucket | None = None
    object: _Object | None = None
    database: str = msgspec.field(default="", name="databaseName")
    table: str = msgspec.field(default="", name="tableName")
    changed_tables: _Names = msgspec.field(default=(), name="changedTables")
    change: str = msgspec.field(default="", name="typeOfChange")


class BusEvent(msgspec.Struct, frozen=True):
    """An event of the bus, as far as it is read."""

    source: str
    detail_type: str = msgspec.field(name="detail-type")
    detail: _Detail
    id: str = ""
    time: str = ""


def read_event(source: str, body: bytes | str, *, catalog: str) -> Delivery:
    """Read an event that was verified.

    Args:
        source: the name under `[webhooks]`.
        body: the event.
        catalog: see `EventBridgeReceiver`.

    Raises:
        WebhookMalformedError: it is none, or one of Glue's and no catalog is set.
    """
    event = decode(body, BusEvent)
    if event.source == "aws.s3":
        return Delivery(source, _id(event), tuple(_of_object(event)))
    if event.source == "aws.glue":
        if not catalog:
            raise WebhookMalformedError(
                "a table of Glue changed, and the source names no catalog",
                hint=f'set `catalog = "…"` in [webhooks.{source}]',
            )
        return Delivery(source, _id(event), tuple(_of_tables(event, catalog)))
    return Delivery(source, _id(event), ())


def _id(event: BusEvent) -> str:
    """Return the identity of what happened: some senders give every event the same id."""
    what = event.detail
    if what.object is not None and what.bucket is not None:
        one = what.object
        parts = [what.bucket.name, one.key, one.etag, one.sequencer or event.time]
    else:
        tables = ",".join(what.changed_tables) or what.table
        parts = [event.id, event.time, what.database, tables, what.change]
    return identity(*parts)


def _of_object(event: BusEvent) -> Iterator[Hint]:
    what = event.detail
    if event.detail_type != "Object Created" or what.bucket is None or what.object is None:
        return
    if is_commit(what.object.key):
        yield Hint(
            target=None,
            location=f"s3://{what.bucket.name}/{what.object.key}",
            snapshot_id=None,
            operation=None,
            job_id=None,
            reason=f"object {what.object.key.rpartition('/')[2]} was written",
        )


def _of_tables(event: BusEvent, catalog: str) -> Iterator[Hint]:
    what = event.detail
    for table in what.changed_tables or (what.table,):
        if what.database and table:
            yield Hint(
                target=f"{catalog}.{what.database}.{table}",
                location=None,
                snapshot_id=None,
                operation=None,
                job_id=None,
                reason=f"Glue reports {what.change or 'a change'}",
            )
