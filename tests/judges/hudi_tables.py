"""What a table of Hudi that Spark makes for our tests is declared with: options and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Write:
    """Rows that Spark writes, as a query, and the operation of the data source."""

    rows: str
    operation: str = "upsert"
    options: Mapping[str, str] = field(default_factory=dict)
    # Files are written, and then the commit is refused: the instant stays in flight.
    fails: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A statement of SQL of a table.

    `{path}` and `{table}` stand for where it is and its name, `{told}` for options that services
    need: one that is not told of an index drops it, and of the version, changes it.
    """

    statement: str


Step = Write | Call
_TOLD = ("hoodie.metadata.", "hoodie.write.", "hoodie.embed.")


@dataclass(frozen=True, slots=True)
class HudiTable:
    """A table: what it is written with, how it comes about, and what Spark does to it then."""

    name: str
    options: Mapping[str, str]
    steps: tuple[Step, ...]
    # What Spark's own table services do to it: the oracle of what ours must do.
    then: tuple[Step, ...] = ()
    # Whether the table in the repository has column statistics: they are most of its bytes.
    has_statistics: bool = False
    is_readable: bool = True

    @property
    def service_options(self) -> str:
        """What its services must be told as its writers are, as procedures take it."""
        told = {"hoodie.metadata.enable": "true"} | dict(self.options)
        return ",".join(f"{name}={told[name]}" for name in told if name.startswith(_TOLD))

    @property
    def is_indexed(self) -> bool:
        """Whether the metadata table of its fixture has more than a listing of files."""
        return self.has_statistics or "index.enable" in self.service_options

    @property
    def has_a_name(self) -> bool:
        """Whether Spark can call it by a name: with two ordering fields, it cannot."""
        return "," not in self.options["hoodie.datasource.write.precombine.field"]

    @property
    def keeps_its_version(self) -> bool:
        """Whether procedures that cannot be told of a version leave it as it is."""
        return self.options["hoodie.write.table.version"] != "6"

    @property
    def merges_on_read(self) -> bool:
        """Whether the table has log files."""
        return self.options["hoodie.datasource.write.table.type"] == "MERGE_ON_READ"


def changes(*values: str) -> str:
    """Return a query for rows of (id, ts, part, amount)."""
    return f"SELECT * FROM VALUES {', '.join(values)} AS t(id, ts, part, amount)"


def options(
    version: int = 9, kind: str = "MERGE_ON_READ", /, *layers: Mapping[str, str]
) -> dict[str, str]:
    """Return the options of a table with keys `id`, ordered by `ts`, partitioned by `part`."""
    made = {
        "hoodie.write.table.version": str(version),
        "hoodie.datasource.write.table.type": kind,
        "hoodie.datasource.write.recordkey.field": "id",
        "hoodie.datasource.write.precombine.field": "ts",
        "hoodie.datasource.write.partitionpath.field": "part",
        "hoodie.table.timeline.timezone": "UTC",
        "hoodie.embed.timeline.server": "false",
        "hoodie.write.auto.upgrade": "false",
    }
    for layer in layers:
        made |= layer
    return made


UNPARTITIONED = {
    "hoodie.datasource.write.partitionpath.field": "",
    "hoodie.datasource.write.keygenerator.class": (
        "org.apache.hudi.keygen.NonpartitionedKeyGenerator"
    ),
}
COMMIT_TIME = {
    "hoodie.record.merge.mode": "COMMIT_TIME_ORDERING",
    "hoodie.datasource.write.payload.class": (
        "org.apache.hudi.common.model.OverwriteWithLatestAvroPayload"
    ),
}
EVENT_TIME = {"hoodie.record.merge.mode": "EVENT_TIME_ORDERING"}
RECORD_INDEX = {
    "hoodie.metadata.record.index.enable": "true",
    "hoodie.metadata.global.record.level.index.enable": "true",
    "hoodie.index.type": "RECORD_INDEX",
}
COPY_ON_WRITE = "COPY_ON_WRITE"
SCHEDULE_COMPACTION = Call(
    "CALL run_compaction(op => 'schedule', path => '{path}',"
    " options => 'hoodie.compact.inline.max.delta.commits=1,{told}')"
)
RUN_COMPACTION = Call("CALL run_compaction(op => 'run', path => '{path}', options => '{told}')")

# Inserts; updates of which some are late or tie; deletes, by the operation and by a late one.
FIRST = Write(
    changes(
        "('a1', 10L, 'p1', 1.0D)",
        "('a2', 10L, 'p1', 2.0D)",
        "('a3', 10L, 'p1', 3.0D)",
        "('a4', 10L, 'p1', 4.0D)",
        "('b1', 10L, 'p2', 5.0D)",
        "('b2', 10L, 'p2', 6.0D)",
        "('b3', 10L, 'p2', 7.0D)",
        "('c1', 10L, 'p3', 8.0D)",
    )
)
SECOND = Write(
    changes(
        "('a1', 11L, 'p1', 1.5D)",
        "('a2', 10L, 'p1', 2.5D)",
        "('a3', 9L, 'p1', 3.5D)",
        "('b1', 12L, 'p2', 5.5D)",
    )
)
DELETES = Write(
    changes("('a4', 11L, 'p1', 0.0D)", "('b2', 9L, 'p2', 0.0D)"),
    operation="delete",
)
THIRD = Write(
    changes(
        "('a1', 12L, 'p1', 1.7D)",
        "('b1', 11L, 'p2', 5.7D)",
        "('b3', 10L, 'p2', 7.7D)",
    )
)
USUAL = (FIRST, SECOND, DELETES, THIRD)
