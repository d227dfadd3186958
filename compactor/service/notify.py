"""Telling others: signed webhooks when a job fails, and when the health of a table falls.

What is to be told is found in the store, put into an outbox once per endpoint, and sent until the
endpoint has taken it, or has refused it for days. An event is a CloudEvent (version 1.0), signed
as Standard Webhooks are. Any instance sends; an event that was sent twice has the same id.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from compactor.errors import CompactorError, SettingsError
from compactor.jobs.store import JobStore, now_ms
from compactor.service.config import Section
from compactor.service.outbound import Answer, Outbound
from compactor.service.schema import HEALTH, NOTIFICATIONS, TABLES, TRIGGERS
from compactor.service.views import FAIR_HEALTH
from compactor.service.webhooks.secret_values import signatures
from compactor.service.webhooks.standard import decode_secret

JOB_FAILED, TABLE_UNHEALTHY = "compaction.job.failed", "compaction.table.unhealthy"
EVENTS = (JOB_FAILED, TABLE_UNHEALTHY)
DELAYS_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Between the attempts at one event; after the last of them it is given up."""

# What is older than this when it is found is told to nobody any more.
_WINDOW_MS = 3_600_000
_CLAIM_MS = 60_000
_KEPT_MS = 7 * 86_400_000
_ROUND_SECONDS = 2.0
_SENT_MAX = 20
_GONE = 410
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somebody who wants to be told.

    Attributes:
        name: under `[notifications]`.
        url: where it is sent to.
        secrets: each of them signs.
        events: which events; see `EVENTS`.
        tables: patterns of the targets they are about.
        outbound: reaches the URL.
    """

    name: str
    url: str
    secrets: tuple[bytes, ...]
    events: frozenset[str]
    tables: tuple[str, ...]
    outbound: Outbound


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    secrets: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    events: tuple[str, ...] = EVENTS
    tables: tuple[str, ...] = ("*",)
    private_hosts: tuple[str, ...] = ()
    ca_file: str | None = None


def make_endpoint(section: Section) -> Endpoint:
    """Make the endpoint of a section `[notifications.<name>]`.

    Raises:
        SettingsError: a setting is missing, unknown, or not what it must be.
    """
    try:
        said = msgspec.convert(dict(section.values), _Section)
        secrets = tuple(decode_secret(one) for one in said.secrets)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"{section.origin} is refused: {error}") from error
    unknown = set(said.events) - set(EVENTS)
    if unknown:
        raise SettingsError(
            f"no event is named `{min(unknown)}` ({section.origin})",
            hint=f"there are {' and '.join(EVENTS)}",
        )
    if not said.url.startswith("https://"):
        raise SettingsError(f"`url` does not begin with https:// ({section.origin})")
    outbound = Outbound(frozenset(said.private_hosts), authorities=said.ca_file)
    events = frozenset(said.events)
    return Endpoint(section.name, said.url, secrets, events, said.tables, outbound)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that endpoints are told.

    Attributes:
        event_id: follows from what happened.
        kind: one of `EVENTS`.
        target: the table.
        at_ms: when.
        data: the rest.
    """

    event_id: str
    kind: str
    target: str
    at_ms: int
    data: Mapping[str, Any]

    def body(self) -> str:
        """Return it as a CloudEvent."""
        moment = datetime.fromtimestamp(self.at_ms / 1000, UTC).isoformat()
        event = {
            "specversion": "1.0",
            "id": self.event_id,
            "source": "compact",
            "type": self.kind,
            "subject": self.target,
            "time": moment,
            "datacontenttype": "application/json",
            "data": {"table": self.target, **self.data},
        }
        return msgspec.json.encode(event).decode()


class Notifier:
    """Finds events, keeps them in the outbox and sends them, in a thread of its own."""

    def __init__(self, store: JobStore, endpoints: Iterable[Endpoint]) -> None:
        self._store = store
        self._endpoints = {one.name: one for one in endpoints}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    def start(self) -> None:
        """Begin, if anybody wants to be told."""
        if self._endpoints:
            self._thread.start()

    def stop(self) -> None:
        """End; what was not sent stays in the outbox."""
        self._ending.set()
        if self._endpoints:
            self._thread.join()

    def collect(self) -> int:
        """Put what has happened into the outbox; return how many messages are new.

        Raises:
            JobFailedError: the store cannot be read or written.
        """
        with self._store.transaction() as connection:
            now = now_ms(connection)
            old = NOTIFICATIONS.c.created_at_ms < now - _KEPT_MS
            connection.execute(delete(NOTIFICATIONS).where(old))
            found = [*_failed_jobs(connection, now), *_fallen_tables(connection, now)]
            rows = [
                _row(event, one, now)
                for event in found
                for one in self._endpoints.values()
                if event.kind in one.events
                and any(fnmatchcase(event.target, pattern) for pattern in one.tables)
            ]
            if not rows:
                return 0
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            new = dialect.insert(NOTIFICATIONS).on_conflict_do_nothing()
            return len(connection.execute(new.returning(NOTIFICATIONS.c.endpoint), rows).all())

    def send(self) -> int:
        """Send what is due; return how many endpoints have taken something.

        Raises:
            JobFailedError: the store cannot be read or written.
        """
        return sum(self._send(row) for row in self._claimed())

    def _claimed(self) -> list[Row[Any]]:
        waits = NOTIFICATIONS.c.state == "waiting"
        with self._store.transaction() as connection:
            now = now_ms(connection)
            due = (waits, NOTIFICATIONS.c.next_at_ms <= now)
            known = NOTIFICATIONS.c.endpoint.in_(self._endpoints)
            rows = connection.execute(
                select(NOTIFICATIONS)
                .where(*due, known)
                .order_by(NOTIFICATIONS.c.next_at_ms)
                .limit(_SENT_MAX)
                .with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                connection.execute(_of(row).values(next_at_ms=now + _CLAIM_MS))
            return list(rows)

    def _send(self, row: Row[Any]) -> bool:
        endpoint = self._endpoints[row.endpoint]
        try:
            answer: Answer | str = _deliver(endpoint, row.notification_id, row.body)
        except CompactorError as error:
            answer = str(error)
        is_taken = isinstance(answer, Answer) and 200 <= answer.status < 300
        is_gone = isinstance(answer, Answer) and answer.status == _GONE
        told = f"answered {answer.status}" if isinstance(answer, Answer) else answer
        attempts = row.attempts + 1
        is_over = is_gone or attempts > len(DELAYS_SECONDS)
        state = "sent" if is_taken else "given up" if is_over else "waiting"
        if not is_taken:
            _LOG.warning("`%s` was not told of %s: %s", endpoint.name, row.event, told)
        with self._store.transaction() as connection:
            delay_ms = 0 if state != "waiting" else _delay_ms(attempts)
            values = {"state": state, "attempts": attempts, "answer": told}
            at = now_ms(connection) + delay_ms
            connection.execute(_of(row).values(next_at_ms=at, **values))
        return is_taken

    def _run(self) -> None:
        while not self._ending.wait(_ROUND_SECONDS):
            try:
                self.collect()
                self.send()
            except CompactorError as error:
                _LOG.warning("nobody is told anything for now: %s", error)


def _deliver(endpoint: Endpoint, event_id: str, body: str) -> Answer:
    """Make one request.

    Raises:
        OutboundRefusedError, OutboundFailedError: see `Outbound`.
    """
    timestamp = str(int(time.time()))
    signed = f"{event_id}.{timestamp}.{body}".encode()
    shown = (base64.b64encode(one).decode() for one in signatures(endpoint.secrets, signed))
    headers = {
        "Content-Type": "application/cloudevents+json",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{one}" for one in shown),
    }
    return endpoint.outbound.send("POST", endpoint.url, headers=headers, body=body.encode())


def _failed_jobs(connection: Connection, now: int) -> Iterator[Event]:
    rows = connection.execute(
        select(TRIGGERS, TABLES.c.target)
        .join(TABLES, TABLES.c.table_id == TRIGGERS.c.table_id)
        .where(
            TRIGGERS.c.finished_at_ms > now - _WINDOW_MS, TRIGGERS.c.state.in_(("failed", "dead"))
        )
    )
    for row in rows:
        data = {
            "trigger": row.trigger_id,
            "job": row.job_id,
            "state": row.state,
            "attempts": row.attempts,
            "reason": row.reason,
        }
        identity = f"{JOB_FAILED}/{row.trigger_id}/{row.finished_at_ms}"
        yield Event(_id(identity), JOB_FAILED, row.target, row.finished_at_ms, data)


def _fallen_tables(connection: Connection, now: int) -> Iterator[Event]:
    earlier = HEALTH.alias("earlier")
    before = (
        select(earlier.c.score)
        .where(earlier.c.table_id == HEALTH.c.table_id, earlier.c.at_ms < HEALTH.c.at_ms)
        .order_by(earlier.c.at_ms.desc())
        .limit(1)
        .scalar_subquery()
    )
    limit = func.coalesce(TABLES.c.health_below, FAIR_HEALTH)
    rows = connection.execute(
        select(HEALTH, before.label("before"), TABLES.c.target)
        .join(TABLES, TABLES.c.table_id == HEALTH.c.table_id)
        .where(HEALTH.c.at_ms > now - _WINDOW_MS, HEALTH.c.score < limit, before >= limit)
    )
    for row in rows:
        data = {
            "health": row.score,
            "health_before": row.before,
            "files": row.files,
            "small_files": row.small_files,
            "delete_files": row.delete_files,
        }
        identity = f"{TABLE_UNHEALTHY}/{row.table_id}/{row.at_ms}"
        yield Event(_id(identity), TABLE_UNHEALTHY, row.target, row.at_ms, data)


def _row(event: Event, endpoint: Endpoint, now: int) -> dict[str, Any]:
    return {
        "notification_id": event.event_id,
        "endpoint": endpoint.name,
        "event": event.kind,
        "body": event.body(),
        "state": "waiting",
        "next_at_ms": now,
        "created_at_ms": now,
    }


def _of(row: Row[Any]) -> Any:
    is_it = NOTIFICATIONS.c.notification_id == row.notification_id
    return update(NOTIFICATIONS).where(is_it, NOTIFICATIONS.c.endpoint == row.endpoint)


def _delay_ms(attempts: int) -> int:
    """Return the delay before the next attempt, with a jitter of a tenth."""
    return int(DELAYS_SECONDS[attempts - 1] * 1000 * random.uniform(0.9, 1.1))


def _id(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()
