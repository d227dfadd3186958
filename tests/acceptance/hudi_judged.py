"""A table of Hudi under test, the twin that we never touch, and what Spark finds in both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from compactor.jobs.failpoints import VARIABLE, Failpoint
from tests.acceptance.program import compact, start
from tests.judges.hudi_session import HudiSession
from tests.judges.hudi_tables import RUN_COMPACTION, SCHEDULE_COMPACTION, Call, HudiTable, Write
from tests.judges.make_hudi_fixtures import LEAN, READ_OPTIMIZED, moved, unpack

Row = tuple[Any, ...]
Rows = list[Row]
Record = dict[str, Any]
Records = dict[tuple[int, str], Record]

# Where a row lies is what we change; when it was written and how it is called, we do not.
MOVED = "_hoodie_file_name"
WRITTEN = ("_hoodie_commit_time", "_hoodie_commit_seqno")
SKIPPING = {"hoodie.metadata.enable": "true", "hoodie.enable.data.skipping": "true"}
INCREMENTAL = {
    "hoodie.datasource.query.type": "incremental",
    "hoodie.datasource.read.begin.instanttime": "000",
}
QUIET = {"hoodie.compact.inline": "false", "hoodie.clean.automatic": "false"}
_VERSION = ("hoodie.write.table.version", "hoodie.write.auto.upgrade")
_METADATA = """
SELECT type, key, to_json(filesystemMetadata) AS files, to_json(ColumnStatsMetadata) AS stats,
       to_json(recordIndexMetadata) AS place
FROM hudi_metadata('{name}')
"""
_names = count()
# Kinds of records of the metadata table.
PLACES, PARTITION_STATS = 5, 6


def spelled(rows: pa.Table, *forgotten: str) -> Rows:
    """Return rows in one order, without the columns that are of no interest."""
    names = [name for name in rows.column_names if name not in forgotten]
    return sorted((tuple(row.values()) for row in rows.select(names).to_pylist()), key=repr)


@dataclass(frozen=True)
class Judged:
    """A table that Spark has made, and its twin."""

    spark: HudiSession
    declared: HudiTable
    directory: Path
    # Names that Spark knows tables by.
    _registered: dict[Path | str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, spark: HudiSession, declared: HudiTable, directory: Path) -> Judged:
        """Unpack the table, for Spark has made it before, and copy it."""
        if not declared.has_statistics:
            declared = replace(declared, options={**LEAN, **declared.options})
        path = unpack(declared.name, directory)
        twin = shutil.copytree(path, directory / "twin")
        for plan in twin.rglob("*.requested"):
            plan.write_bytes(moved(plan.read_bytes(), f"{path}/", f"{twin}/"))
        return cls(spark, declared, directory)

    @property
    def path(self) -> Path:
        return self.directory / "table"

    @property
    def twin(self) -> Path:
        return self.directory / "twin"

    def compact(
        self, *options: str, code: int = 0, failpoint: Failpoint | None = None
    ) -> dict[str, Any]:
        """Run `compact run` on the table, to its end or until it is killed."""
        arguments = ("run", "table/", "--yes", "--min-input-files", "2", "--verify", "full")
        arguments += options
        if failpoint is None:
            return compact(self.directory, *arguments, code=code)
        process = start(self.directory, *arguments, extra={VARIABLE: failpoint})
        told = process.communicate(timeout=600)
        assert process.returncode == code, told
        return {}

    def rows(self, options: Mapping[str, str] | None = None, *, where: str = "") -> Rows:
        """Return what Spark reads of the table, with when and as what rows were written."""
        return spelled(self.spark.read(self.path, options, where=where), MOVED)

    def since_the_start(self) -> Rows:
        """Return what an incremental query finds: partitions are read from encoded paths there."""
        rows = self.spark.read(self.path, INCREMENTAL)
        return spelled(rows, MOVED, "part", "region")

    def optimized(self) -> Rows:
        """Return what is in base files."""
        return self.rows(READ_OPTIMIZED)

    def shown(self, path: Path, *, where: str = "") -> Rows:
        """Return rows of the table or its twin, whenever they were written."""
        return spelled(self.spark.read(path, SKIPPING, where=where), MOVED, *WRITTEN)

    def shown_values(self) -> Rows:
        """Return rows without the columns that are Hudi's."""
        rows = self.spark.read(self.path)
        return spelled(rows, *(one for one in rows.column_names if one.startswith("_hoodie_")))

    def sought(self) -> Iterator[tuple[Callable[[Row], bool], Rows]]:
        """Yield predicates and the rows that Spark finds by them, skipping by statistics."""
        names = [name for name in self.spark.read(self.path).column_names if name != MOVED]
        for column, value in (("id", "a2"), ("ts", 10), ("amount", 3.0)):
            at, literal = names.index(column), repr(value)

            def chosen(row: Row, at: int = at, value: Any = value) -> bool:
                return bool(row[at] > value)

            yield chosen, self.rows(SKIPPING, where=f"{column} > {literal}")

    def live_on(self) -> None:
        """Make the same writes to the table and to its twin: two of those that made them."""
        for path in (self.path, self.twin):
            for write in self.writes[-2:]:
                self.spark.write(write, self.declared, path)

    def write_last(self, path: Path | None = None) -> None:
        """Make the last of the writes again."""
        last = replace(self.writes[-1], options=QUIET)
        self.spark.write(last, self.declared, path or self.path)

    @property
    def writes(self) -> list[Write]:
        """Writes that can be made again: what inserts a key twice is not one."""
        made = [one for one in self.declared.steps if isinstance(one, Write) and not one.fails]
        return [
            replace(one, operation="upsert") if one.operation == "insert" else one for one in made
        ]

    def clean_and_archive(self) -> None:
        """Let Spark remove the files of older slices, and archive all instants but a few."""
        told = self.declared.service_options
        self.call("run_clean", retain_commits=1, options=told)
        if self.declared.keeps_its_version:
            with self.as_it_was_made():
                self.call("archive_commits", min_commits=2, max_commits=3, retain_commits=1)

    def roll_back_last(self) -> None:
        """Let Spark undo the last completed write."""
        last = self.completed("commit", "deltacommit")[-1]
        with self.as_it_was_made():
            (undone,) = self.call("rollback_to_instant", instant_time=last)
        assert undone == {"rollback_result": True}

    @contextmanager
    def as_it_was_made(self) -> Iterator[None]:
        """Tell procedures that take no options of the version and the indexes of the table."""
        told = (*_VERSION, *(one for one in self.declared.options if one in LEAN))
        for name in told:
            self.spark.sql(f"SET {name}={self.declared.options[name]}")
        try:
            yield
        finally:
            for name in told:
                self.spark.sql(f"RESET {name}")

    def serve(self, *services: Call) -> None:
        """Let Spark carry out services on the table."""
        for service in services:
            self.spark.take(service, self.declared, self.path)

    def compact_with_spark(self) -> None:
        """Let Spark schedule and run a compaction of the table."""
        self.serve(SCHEDULE_COMPACTION, RUN_COMPACTION)

    def call(
        self, procedure: str, path: Path | str | None = None, **arguments: object
    ) -> list[Any]:
        """Call a procedure that takes a table by its name, and return its rows."""
        name = self.registered(path or self.path)
        told = ", ".join(f"{key} => {json.dumps(value)}" for key, value in arguments.items())
        called = f"CALL {procedure}(table => '{name}'{', ' if told else ''}{told})"
        return self.spark.sql(called).to_pylist()

    def registered(self, path: Path | str) -> str:
        """Return the name by which Spark knows the table at a path."""
        if path not in self._registered:
            name = f"judged_{next(_names)}"
            self.spark.sql(f"CREATE TABLE {name} USING hudi LOCATION '{path}'")
            self._registered[path] = name
        return self._registered[path]

    def has_metadata_table(self) -> bool:
        return (self.path / ".hoodie" / "metadata").exists()

    def metadata(self, path: Path) -> Records:
        """Return the live records of the metadata table by kind and key."""
        name = self.registered(path)
        self.spark.sql(f"REFRESH TABLE {name}")
        rows = self.spark.sql(_METADATA.format(name=name)).to_pylist()
        return {(row["type"], row["key"]): _meant(row) for row in rows}

    def rebuilt_metadata(self) -> Records:
        """Return the metadata table that Spark builds from nothing but the files."""
        copy = self.directory / f"rebuilt-{next(_names)}"
        shutil.copytree(self.path, copy)
        shutil.rmtree(copy / ".hoodie" / "metadata")
        properties = copy / ".hoodie" / "hoodie.properties"
        lines = properties.read_text().splitlines(keepends=True)
        properties.write_text(
            "".join(line for line in lines if not line.startswith("hoodie.table.metadata."))
        )
        # Hadoop's checksum of what was just changed.
        properties.with_name(f".{properties.name}.crc").unlink(missing_ok=True)
        last = self.writes[-1].rows
        nothing = Write(f"SELECT * FROM ({last}) WHERE false", options=QUIET)
        self.spark.write(nothing, self.declared, copy)
        return self.metadata(copy)

    def completed(self, *actions: str) -> list[str]:
        """Return the requested times of completed instants, oldest first."""
        folder = self.path / ".hoodie"
        if (folder / "timeline").exists():
            folder /= "timeline"
        return sorted(
            path.name[:17] for path in folder.glob("2*") if path.name.partition(".")[2] in actions
        )


def metadata_is_true(table: Judged) -> None:
    """The metadata table says of the latest files what Spark finds by looking at them."""
    if not table.has_metadata_table() or not table.declared.has_a_name:
        return
    listed = table.call("validate_metadata_table_files", verbose=True)
    assert [one for one in listed if one["fs_size"] != one["metadata_size"]] == []
    if table.declared.is_indexed:
        says_what_is_found(table.metadata(table.path), table.rebuilt_metadata())


def says_what_is_found(said: Records, found: Records) -> None:
    """Records of files, statistics and places are as those that were made from the files."""
    for (kind, key), record in found.items():
        ours = said.get((kind, key))
        assert ours is not None, (kind, key, record)
        if kind == PARTITION_STATS:
            assert _holds(ours["stats"], record["stats"]), (ours, record)
        else:
            assert ours == record, (kind, key)
    # Of statistics there may be more, those of files that are no longer the latest.
    assert {key for key in said if key[0] == PLACES} == {key for key in found if key[0] == PLACES}


def _holds(wide: Record, narrow: Record) -> bool:
    """Whether the range of values of a partition holds that of its files."""
    if not narrow["minValue"]:
        return True
    lowest, highest = (
        [next(iter(one[name].values()))["value"] for one in (wide, narrow)]
        for name in ("minValue", "maxValue")
    )
    return bool(min(lowest) == lowest[0] and max(highest) == highest[0])


def _meant(row: Mapping[str, Any]) -> Record:
    """Return what a record of the metadata table says, less when and how it was put down."""
    files = json.loads(row["files"] or "{}")
    stats = json.loads(row["stats"] or "{}")
    place = json.loads(row["place"] or "{}")
    place.pop("instantTime", None)
    return {
        "files": {name: one["size"] for name, one in files.items() if not one["isDeleted"]},
        "stats": {
            name: stats.get(name)
            for name in ("fileName", "columnName", "minValue", "maxValue", "nullCount")
        },
        "count": stats.get("valueCount"),
        "place": place,
    }
