"""Bringing the tables of a job store to the form that this version of the program knows.

Step by step from one version to the next, all of it in the transaction that opens the store: a
process that dies leaves the old form, and a second one waits and finds the new one. A step only
ever adds what older programs do not look at, so that those still running can end their jobs.

The steps are few and short and must be undone together, in SQLite as well: statements do, and a
framework of migrations would be installed with every copy of the program to run them.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    Column,
    Connection,
    LargeBinary,
    MetaData,
    String,
    Table,
    inspect,
    select,
    text,
    update,
)

from compactor.jobs.schema import METADATA, SCHEMA_VERSION, VERSION

# Any number that nobody else locks in the same database.
_LOCK = 0x636F6D70616374
_NOTHING = 0


def prepare(connection: Connection) -> int:
    """Make the tables, or change those of an earlier version; return the version they have then.

    That is above `SCHEMA_VERSION` for tables of a later program, which are left as they are.

    Raises:
        SQLAlchemyError: they cannot be made or changed; nothing was.
    """
    version = _version(connection)
    if version < SCHEMA_VERSION:
        _exclude_others(connection)
        version = _version(connection)
    if version == _NOTHING:
        METADATA.create_all(connection)
        connection.execute(VERSION.insert().values(version=SCHEMA_VERSION))
    elif version < SCHEMA_VERSION:
        for step in _STEPS[version - 1 :]:
            step(connection)
        connection.execute(update(VERSION).values(version=SCHEMA_VERSION))
    return max(version, SCHEMA_VERSION)


def _version(connection: Connection) -> int:
    if not connection.dialect.has_table(connection, VERSION.name):
        return _NOTHING
    version: int | None = connection.execute(select(VERSION.c.version)).scalar_one_or_none()
    return _NOTHING if version is None else version


def _exclude_others(connection: Connection) -> None:
    """Let one process at a time change the tables; SQLite's transactions do so by themselves."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _to_2(connection: Connection) -> None:
    """Record what attempts were predicted to need; the first stores had plans among the jobs."""
    connection.execute(
        text("ALTER TABLE attempts ADD COLUMN predicted_bytes BIGINT DEFAULT 0 NOT NULL")
    )
    columns = {column["name"] for column in inspect(connection).get_columns("jobs")}
    if "plan" in columns:
        _PLANS_OF_2.create(connection, checkfirst=True)
        connection.execute(text("INSERT INTO plans (job_id, plan) SELECT job_id, plan FROM jobs"))
        connection.execute(text("ALTER TABLE jobs DROP COLUMN plan"))


# As it was then: a step does not change when the schema goes on.
_PLANS_OF_2 = Table(
    "plans",
    MetaData(),
    Column("job_id", String(64), primary_key=True),
    Column("plan", LargeBinary, nullable=False),
)
_STEPS: tuple[Callable[[Connection], None], ...] = (_to_2,)
