"""What is known of the registered tables from looking at them: heads, health, troubles."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from compactor.jobs.store import now_ms
from compactor.service.orders import Changed, Looked
from compactor.service.places import place_of_head
from compactor.service.schema import HEALTH, TABLES

# A point of the history is kept so often, or when the score has moved by so much.
_POINT_SECONDS = 600
_POINT_SCORE = 5


def note_head(connection: Connection, changed: Changed) -> None:
    """Keep the head of a table, or why it cannot be told."""
    values: dict[str, Any] = {"trouble": changed.trouble, "is_missing": changed.is_missing}
    if changed.head:
        values["head"] = changed.head
        if place := place_of_head(changed.head):
            values["location"] = place
    table = update(TABLES).where(TABLES.c.target == changed.target)
    connection.execute(table.values(values))


def note_look(connection: Connection, looked: Looked) -> None:
    """Keep what was found in a table, and its health as part of a history."""
    now = now_ms(connection)
    values: dict[str, Any] = {"trouble": looked.trouble, "is_missing": looked.is_missing}
    values["seen_at_ms"] = now
    health = looked.health
    if health is not None:
        values |= {"snapshot_id": looked.snapshot_id, "format": looked.format}
        values |= {"health": health.score, "health_at_ms": now}
        values |= {"files": health.files, "small_files": health.small_files}
        values |= {"delete_files": health.delete_files, "size_bytes": health.size_bytes}
        values |= {"rows": health.rows}
        values["health_reasons"] = msgspec.json.encode(health.reasons).decode()
    is_it = TABLES.c.target == looked.target
    connection.execute(update(TABLES).where(is_it).values(values))
    if health is None:
        return
    table_id = connection.execute(select(TABLES.c.table_id).where(is_it)).scalar()
    if table_id is None or not _is_news(connection, table_id, health.score, now):
        return
    connection.execute(
        insert(HEALTH).values(
            table_id=table_id,
            at_ms=now,
            score=health.score,
            files=health.files,
            small_files=health.small_files,
            delete_files=health.delete_files,
            size_bytes=health.size_bytes,
        )
    )


def _is_news(connection: Connection, table_id: int, score: int, now: int) -> bool:
    """Whether a point of the history tells more than the one before it does."""
    points = select(HEALTH.c.at_ms, HEALTH.c.score).where(HEALTH.c.table_id == table_id)
    last = connection.execute(points.order_by(HEALTH.c.at_ms.desc()).limit(1)).first()
    if last is None:
        return True
    age_ms, moved = now - last.at_ms, abs(score - last.score)
    return bool(age_ms > _POINT_SECONDS * 1000 or (age_ms > 0 and moved >= _POINT_SCORE))
