"""The tables of the job store, as SQLAlchemy Core knows them.

Times are milliseconds since the epoch by the clock of the database. Values that no query looks into
(plan, results, report) are kept whole: a plan in its own file form, the others as JSON.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

# Raised with every change of what follows, with a step in `migrations` that brings stores along.
SCHEMA_VERSION = 3

METADATA = MetaData()


class Words(TypeDecorator[str]):
    """Text for people: PostgreSQL knows no character 0, which values and messages may contain."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:
        """Write the character as it is written in programs."""
        return value.replace("\0", "\\0") if value else value


VERSION = Table("compactor_schema", METADATA, Column("version", Integer, primary_key=True))

# One row per table ever worked on: the fence is raised at each claim and never goes back.
FENCES = Table(
    "fences",
    METADATA,
    Column("table_name", Text, primary_key=True),
    Column("fence", BigInteger, nullable=False),
)

# One row per table being worked on now.
LEASES = Table(
    "leases",
    METADATA,
    Column("table_name", Text, primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started_at", Float, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
)

JOBS = Table(
    "jobs",
    METADATA,
    Column("job_id", String(64), primary_key=True),
    Column("table_name", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Words, nullable=False, default=""),
    Column("proof", String(16), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("snapshot_before", Text, nullable=False),
    Column("files_before", BigInteger, nullable=False),
    Column("rows_before", BigInteger, nullable=False),
    Column("group_count", Integer, nullable=False),
    Column("input_bytes", BigInteger, nullable=False),
    Column("report", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
    Index("jobs_of_table", "table_name", "created_at_ms"),
    Index("jobs_by_time", "created_at_ms", "job_id"),
)

# Apart from the jobs: their rows are written at every step, and a plan is megabytes.
PLANS = Table(
    "plans",
    METADATA,
    Column("job_id", String(64), primary_key=True),
    Column("plan", LargeBinary, nullable=False),
)

GROUPS = Table(
    "file_groups",
    METADATA,
    Column("job_id", String(64), primary_key=True),
    Column("group_id", String(128), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("partition", Words, nullable=False),
    Column("input_files", Integer, nullable=False),
    Column("input_bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("attempt_id", String(256), nullable=False),
    Column("output_bytes", BigInteger, nullable=False),
    Column("batch_id", String(128), nullable=False),
    Column("reason", Words, nullable=False),
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("attempt_id", String(256), primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("group_id", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("result", Text),
    Column("error", Words, nullable=False, default=""),
    Column("cpu_seconds", Float, nullable=False, default=0.0),
    Column("predicted_bytes", BigInteger, nullable=False, default=0),
    Column("granted_bytes", BigInteger, nullable=False, default=0),
    Column("peak_memory_bytes", BigInteger, nullable=False, default=0),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
    Index("attempts_of_job", "job_id"),
)

BATCHES = Table(
    "batches",
    METADATA,
    Column("batch_id", String(128), primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("group_ids", Text, nullable=False),
    Column("snapshot", Text),
    Column("reason", Words, nullable=False, default=""),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
    Index("batches_of_job", "job_id", "number"),
)
