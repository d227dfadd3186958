"""The tables of the service, in the database of the job store and beside its tables.

They have a version of their own: whoever only runs `compact run` needs none of them. Times are
milliseconds since the epoch by the clock of the database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

from compactor.jobs.migrations import Lineage
from compactor.jobs.schema import Words

METADATA = MetaData()
# SQLite numbers rows by itself in a column of this very type only.
_Number = BigInteger().with_variant(Integer, "sqlite")

VERSION = Table("compactor_service", METADATA, Column("version", Integer, primary_key=True))

# One row per registered table. What stands in configuration is written here by `registry`.
TABLES = Table(
    "tables",
    METADATA,
    Column("table_id", _Number, primary_key=True),
    Column("target", Text, nullable=False, unique=True),
    Column("namespace", Text, nullable=False),
    # Where its objects lie, without a slash at its end; empty until it is known.
    Column("location", Text, nullable=False, default=""),
    # Care, resolved: what the queue and the scheduler ask for.
    Column("is_enabled", Boolean, nullable=False, default=True),
    Column("is_paused", Boolean, nullable=False, default=False),
    Column("priority", Integer, nullable=False),
    Column("debounce_ms", BigInteger, nullable=False),
    Column("debounce_max_ms", BigInteger, nullable=False),
    Column("schedule", Text, nullable=False, default=""),
    Column("window", Text, nullable=False, default=""),
    Column("health_below", Integer),
    # The moment at which its schedule is due next.
    Column("due_at_ms", BigInteger),
    # What was seen of it last. `head` says nothing but whether the table has changed.
    Column("head", Text, nullable=False, default=""),
    Column("snapshot_id", Text, nullable=False, default=""),
    Column("own_snapshot_id", Text, nullable=False, default=""),
    Column("format", Text, nullable=False, default=""),
    Column("seen_at_ms", BigInteger),
    # Why it cannot be looked at; empty when it can.
    Column("trouble", Words, nullable=False, default=""),
    Column("is_missing", Boolean, nullable=False, default=False),
    # Health, as of `health_at_ms`.
    Column("health", Integer),
    Column("health_at_ms", BigInteger),
    Column("files", BigInteger, nullable=False, default=0),
    Column("small_files", BigInteger, nullable=False, default=0),
    Column("delete_files", BigInteger, nullable=False, default=0),
    Column("size_bytes", BigInteger, nullable=False, default=0),
    Column("rows", BigInteger, nullable=False, default=0),
    Column("health_reasons", Words, nullable=False, default="[]"),
    Column("compacted_at_ms", BigInteger),
    Column("registered_at_ms", BigInteger, nullable=False),
    Index("tables_by_location", "location"),
    Index("tables_due", "due_at_ms"),
    # Holds what is added up over all tables, and leads to those with the lowest scores.
    Index("tables_figures", "health", "files", "small_files", "size_bytes"),
    Index("tables_by_namespace", "namespace"),
)

# Policies and care that were set through the job API; those of files are not kept here.
POLICIES = Table(
    "policies",
    METADATA,
    Column("pattern", Text, primary_key=True),
    # By the names of `[policy]` and of `[[tables]]`, as JSON.
    Column("policy", Text, nullable=False, default="{}"),
    Column("care", Text, nullable=False, default="{}"),
    Column("set_by", Words, nullable=False),
    Column("set_at_ms", BigInteger, nullable=False),
)

# The queue. A table has one pending row at most, and one running row at most.
TRIGGERS = Table(
    "triggers",
    METADATA,
    Column("trigger_id", _Number, primary_key=True),
    Column("table_id", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    # Order of work: the first trigger, put off by the priority. So waiting makes up for it.
    Column("rank_ms", BigInteger, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("not_before_ms", BigInteger, nullable=False),
    # Further triggers cannot put it off beyond this.
    Column("latest_ms", BigInteger, nullable=False),
    Column("first_at_ms", BigInteger, nullable=False),
    Column("last_at_ms", BigInteger, nullable=False),
    Column("hints", Integer, nullable=False, default=1),
    Column("source", Text, nullable=False),
    Column("cause", Words, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    # Class of the last error and the error itself; empty before the first.
    Column("error_class", String(16), nullable=False, default=""),
    Column("reason", Words, nullable=False, default=""),
    # The claim: `fence` is that of the table in the job store, and who finishes must have it.
    Column("fence", BigInteger),
    Column("instance", Text, nullable=False, default=""),
    Column("host", Text, nullable=False, default=""),
    Column("pid", Integer),
    Column("process_started_at", Float),
    Column("claim_ends_ms", BigInteger),
    Column("claimed_at_ms", BigInteger),
    Column("cancel_asked_ms", BigInteger),
    # What became of it.
    Column("job_id", String(64), nullable=False, default=""),
    Column("status", String(16), nullable=False, default=""),
    Column("bytes_moved", BigInteger, nullable=False, default=0),
    Column("cpu_seconds", Float, nullable=False, default=0.0),
    Column("finished_at_ms", BigInteger),
    Index(
        "one_pending_trigger",
        "table_id",
        unique=True,
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index(
        "one_running_trigger",
        "table_id",
        unique=True,
        sqlite_where=text("state = 'running'"),
        postgresql_where=text("state = 'running'"),
    ),
    Index("triggers_in_order", "state", "rank_ms"),
    Index("triggers_of_table", "table_id", "trigger_id"),
    Index("triggers_of_job", "job_id"),
    Index("triggers_claimed", "claimed_at_ms"),
    # Holds what the budget of a day counts.
    Index("triggers_ended", "finished_at_ms", "bytes_moved"),
    Index("triggers_by_state", "state", "trigger_id"),
)

DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("source", String(128), primary_key=True),
    Column("delivery_id", String(512), primary_key=True),
    Column("received_at_ms", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    # JSON.
    Column("trigger_ids", Text, nullable=False, default="[]"),
    Column("reason", Words, nullable=False, default=""),
    Index("deliveries_by_time", "received_at_ms"),
)

# Health over time: one row per look that found a changed table.
HEALTH = Table(
    "health",
    METADATA,
    Column("table_id", BigInteger, primary_key=True),
    Column("at_ms", BigInteger, primary_key=True),
    Column("score", Integer, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("small_files", BigInteger, nullable=False),
    Column("delete_files", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Index("health_by_time", "at_ms"),
)

# Who serves this store; a row is renewed for as long as its process lives.
INSTANCES = Table(
    "instances",
    METADATA,
    Column("instance", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    Column("jobs_max", Integer, nullable=False),
    Column("is_draining", Boolean, nullable=False, default=False),
)

# Work that one instance at a time does for all: a sweep, a look-up of patterns.
DUTIES = Table(
    "duties",
    METADATA,
    Column("duty", String(64), primary_key=True),
    Column("instance", Text, nullable=False, default=""),
    Column("ends_at_ms", BigInteger, nullable=False, default=0),
    Column("done_at_ms", BigInteger, nullable=False, default=0),
    Column("result", Words, nullable=False, default=""),
)

# What all jobs together have done, for as long as the store lives: the history is pruned.
TOTALS = Table(
    "totals",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("label", String(64), primary_key=True),
    Column("value", Float, nullable=False),
)

# Written once, never changed: who did what.
AUDIT = Table(
    "audit",
    METADATA,
    Column("entry_id", _Number, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Words, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Words, nullable=False),
    Column("detail", Words, nullable=False, default=""),
    Index("audit_by_time", "at_ms"),
)

# Messages to be sent out; a row stays until its endpoint has taken it or is given up.
NOTIFICATIONS = Table(
    "notifications",
    METADATA,
    Column("notification_id", String(64), primary_key=True),
    Column("endpoint", String(128), primary_key=True),
    Column("event", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at_ms", BigInteger, nullable=False),
    Column("answer", Words, nullable=False, default=""),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("notifications_next", "state", "next_at_ms"),
)


def _to_2(connection: Connection) -> None:
    """Make what pages over a long history need; each index takes the place of a narrower one."""
    for statement in (
        "DROP INDEX tables_by_health",
        "DROP INDEX triggers_finished",
        "CREATE INDEX tables_figures ON tables (health, files, small_files, size_bytes)",
        "CREATE INDEX triggers_ended ON triggers (finished_at_ms, bytes_moved)",
        "CREATE INDEX triggers_by_state ON triggers (state, trigger_id)",
    ):
        connection.execute(text(statement))


# Raised with every change of what stands above, with a step that brings earlier stores along.
LINEAGE = Lineage(METADATA, VERSION, version=2, steps=(_to_2,))
