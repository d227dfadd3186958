"""Bringing the tables of a job store to the form that this version of the program knows.

Step by step from one version to the next, all of it in the transaction that opens the store: a
process that dies leaves the old form, and a second one waits and finds the new one. A step only
ever adds what older programs do not look at, so that those still running can end their jobs.

The steps are few and short and must be undone together, in SQLite as well: statements do, and a
framework of migrations would be installed with every copy of the program to run them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Lineage:
    """Tables that have a version together, and the way from each earlier one.

    Attributes:
        metadata: the tables as they are now.
        version_table: holds the version that a database has, in its only row.
        version: the version of `metadata`.
        steps: the first brings version 1 to 2, and so on.
    """

    metadata: MetaData
    version_table: Table
    version: int
    steps: tuple[Callable[[Connection], None], ...]


def prepare(connection: Connection, lineage: Lineage) -> int:
    """Make the tables, or change those of an earlier version; return the version they have then.

    That is above the version of the lineage for tables of a later program, which are left as they
    are.

    Raises:
        SQLAlchemyError: they cannot be made or changed; nothing was.
    """
    version = _version(connection, lineage.version_table)
    if version < lineage.version:
        _exclude_others(connection)
        version = _version(connection, lineage.version_table)
    if version == _NOTHING:
        lineage.metadata.create_all(connection)
        connection.execute(lineage.version_table.insert().values(version=lineage.version))
    elif version < lineage.version:
        for step in lineage.steps[version - 1 :]:
            step(connection)
        connection.execute(update(lineage.version_table).values(version=lineage.version))
    return max(version, lineage.version)


def _version(connection: Connection, table: Table) -> int:
    if not connection.dialect.has_table(connection, table.name):
        return _NOTHING
    version: int | None = connection.execute(select(table.c.version)).scalar_one_or_none()
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


def _to_3(connection: Connection) -> None:
    """Let the newest of many jobs be found at once."""
    connection.execute(text("CREATE INDEX jobs_by_time ON jobs (created_at_ms, job_id)"))


JOB_STORE = Lineage(METADATA, VERSION, SCHEMA_VERSION, steps=(_to_2, _to_3))
