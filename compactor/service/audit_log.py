"""The audit log: who did what, written in the transaction that does it, and never changed."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from compactor.jobs.store import now_ms
from compactor.service.schema import AUDIT


def record(
    connection: Connection, actor: str, action: str, subject: str, *, detail: str = ""
) -> None:
    """Write an entry.

    Args:
        connection: the transaction that does what is told.
        actor: name of the token or of the source.
        action: what was done, in kebab-case.
        subject: what it was done to.
        detail: the rest, for people; no secrets.
    """
    entry = {"actor": actor, "action": action, "subject": subject, "detail": detail}
    connection.execute(insert(AUDIT).values(at_ms=now_ms(connection), **entry))
