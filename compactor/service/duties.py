"""What one instance at a time does for all: duties are taken, done, and due again later."""

from __future__ import annotations

from sqlalchemy import Connection, delete, or_, update
from sqlalchemy.dialects import postgresql, sqlite

from compactor.jobs.owner import Owner
from compactor.jobs.store import now_ms
from compactor.service.config import ServiceOptions
from compactor.service.schema import DUTIES, INSTANCES

# A duty that its instance has not ended by then is anybody's.
DUTY_SECONDS = 3600.0
# An instance that was not seen for so long is forgotten.
_FORGOTTEN_SECONDS = 86_400.0


def take_duty(connection: Connection, duty: str, instance: str, *, every_seconds: float) -> bool:
    """Take a duty when it is due and nobody is at it."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(DUTIES).values(duty=duty).on_conflict_do_nothing())
    now = now_ms(connection)
    taken = connection.execute(
        update(DUTIES)
        .where(
            DUTIES.c.duty == duty,
            or_(DUTIES.c.ends_at_ms < now, DUTIES.c.instance == instance),
            DUTIES.c.done_at_ms <= now - int(every_seconds * 1000),
        )
        .values(instance=instance, ends_at_ms=now + int(DUTY_SECONDS * 1000))
    )
    return taken.rowcount == 1


def end_duty(connection: Connection, duty: str, instance: str, result: str) -> None:
    """Record that a duty is done."""
    is_mine = DUTIES.c.duty == duty, DUTIES.c.instance == instance
    done = {"done_at_ms": now_ms(connection), "ends_at_ms": 0, "result": result}
    connection.execute(update(DUTIES).where(*is_mine).values(done))


def give_up_duties(connection: Connection, instance: str) -> None:
    """Let others take what an instance that ends has taken."""
    connection.execute(update(DUTIES).where(DUTIES.c.instance == instance).values(ends_at_ms=0))


def show_up(
    connection: Connection, instance: str, options: ServiceOptions, *, is_draining: bool
) -> None:
    """Tell all others that an instance lives, and what it takes."""
    now, owner = now_ms(connection), Owner.current()
    seen = {"seen_at_ms": now, "jobs_max": options.jobs_max, "is_draining": is_draining}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(INSTANCES).values(
        instance=instance, host=owner.host, pid=owner.pid, started_at_ms=now, **seen
    )
    connection.execute(new.on_conflict_do_update(index_elements=["instance"], set_=seen))
    gone = INSTANCES.c.seen_at_ms < now - int(_FORGOTTEN_SECONDS * 1000)
    connection.execute(delete(INSTANCES).where(gone))


def leave(connection: Connection, instance: str) -> None:
    """Take an instance that ends off the list."""
    give_up_duties(connection, instance)
    connection.execute(delete(INSTANCES).where(INSTANCES.c.instance == instance))
