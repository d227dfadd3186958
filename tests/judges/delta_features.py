"""Tables with every feature of Delta Lake, as statements for Spark.

Each is fed the same way: many small appends with deletes, updates and a merge between them, so
that there are small files to compact and deletion vectors to purge. The same statements make
the tables of the acceptance tests and the small ones in `tests/fixtures/delta`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ROWS_PER_FILE = 20
_DELETION_VECTORS = "'delta.enableDeletionVectors' = 'true'"


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """How to make a table and to write to it.

    Attributes:
        name: of the table, and of its fixture.
        create: what follows the table's name in `CREATE TABLE`.
        fill: the values of a row, by its `id`.
        evolve: statements in the middle of its life.
        fill_evolved: as `fill`, after them; None where they change nothing about it.
        value: a string column that updates may set, after `evolve`.
        shown: what to select of it to have everything that it holds.
        columns: the columns that `fill` sets; all when empty.
        sought: predicates beside those that every table is asked, for files are skipped by them.
        is_append_only: whether rows may never go.
        is_cloned: whether its first files are another table's, at `<path>_source`.
        settings: of the session, while it is made.
    """

    name: str
    create: str
    fill: str = "id, concat('v', id)"
    evolve: tuple[str, ...] = ()
    fill_evolved: str | None = None
    value: str = "v"
    shown: str = "*"
    columns: str = ""
    sought: tuple[str, ...] = ()
    is_append_only: bool = False
    is_cloned: bool = False
    settings: tuple[str, ...] = ()

    @property
    def has_row_tracking(self) -> bool:
        """Whether rows have ids that must not change."""
        return "delta.enableRowTracking" in self.create

    def statements(self, path: str) -> Iterator[str]:
        """Yield what makes the table at a path."""
        table = f"delta.`{path}{'_source' if self.is_cloned else ''}`"
        yield from self.settings
        yield f"CREATE TABLE {table} {self.create}"
        yield from (self._append(table, number, self.fill) for number in range(4))
        if not self.is_append_only:
            yield f"DELETE FROM {table} WHERE id % 7 = 3"
        if self.is_cloned:
            yield f"CREATE TABLE delta.`{path}` SHALLOW CLONE {table}"
            table = f"delta.`{path}`"
        yield from (statement.replace("{table}", table) for statement in self.evolve)
        yield from self._changes(table, 4)
        yield from (f"RESET {setting.split()[1]}" for setting in self.settings)

    def query(self, path: str, version: int | None = None) -> str:
        """Return what reads everything, ids and versions of rows included."""
        tracked = (
            ", _metadata.row_id, _metadata.row_commit_version" if self.has_row_tracking else ""
        )
        moment = "" if version is None else f" VERSION AS OF {version}"
        return f"SELECT {self.shown}{tracked} FROM delta.`{path}`{moment} ORDER BY id"

    def counts(self, path: str) -> str:
        """Return what counts the rows by predicates that files are skipped by."""
        predicates = "id = 45", "id < 20", f"{self.value} = 'v50'", *self.sought
        parts = (
            f"SELECT {number} AS id, count(*) AS found FROM delta.`{path}` WHERE {predicate}"
            for number, predicate in enumerate(predicates)
        )
        return " UNION ALL ".join(parts)

    def later(self, path: str) -> Iterator[str]:
        """Yield what is written to the table once it was compacted."""
        table = f"delta.`{path}`"
        yield self._append(table, 8, self.fill_evolved or self.fill)
        if not self.is_append_only:
            yield f"DELETE FROM {table} WHERE id % 13 = 8"
            yield self._merge(table, 8)

    def _changes(self, table: str, first: int) -> Iterator[str]:
        fill = self.fill_evolved or self.fill
        yield from (self._append(table, first + number, fill) for number in range(2))
        if self.is_append_only:
            return
        value = self.value
        yield f"UPDATE {table} SET {value} = concat({value}, '+') WHERE id % 11 = {first}"
        yield self._merge(table, first)
        yield self._append(table, first + 2, fill)
        yield f"DELETE FROM {table} WHERE id % 13 = {first}"

    def _merge(self, table: str, first: int) -> str:
        return (
            f"MERGE INTO {table} AS t "
            f"USING (SELECT id FROM range({first * 3}, {first * 30}, 3, 1)) AS s ON t.id = s.id "
            "WHEN MATCHED AND s.id % 2 = 0 THEN DELETE "
            f"WHEN MATCHED THEN UPDATE SET {self.value} = 'merged'"
        )

    def _append(self, table: str, number: int, fill: str) -> str:
        first = number * ROWS_PER_FILE
        columns = f" ({self.columns})" if self.columns else ""
        rows = f"range({first}, {first + ROWS_PER_FILE}, 1, 1)"
        return f"INSERT INTO {table}{columns} SELECT {fill} FROM {rows}"


def _table(columns: str, *properties: str, clause: str = "") -> str:
    listed = f" TBLPROPERTIES ({', '.join(properties)})" if properties else ""
    return f"({columns}) USING delta {clause}{listed}"


_PLAIN = "id BIGINT, v STRING"
_NESTED = (
    "id BIGINT, v STRING, s STRUCT<a: INT, b: STRUCT<c: STRING, d: ARRAY<INT>>>, "
    "l ARRAY<STRUCT<x: BIGINT, y: STRING>>, m MAP<STRING, STRUCT<z: DOUBLE>>"
)
_NESTED_FILL = (
    "id, concat('v', id), "
    "IF(id % 5 = 0, NULL, named_struct('a', CAST(id AS INT), 'b', "
    "named_struct('c', concat('c', id), 'd', array(1, NULL, CAST(id AS INT))))), "
    "IF(id % 4 = 0, array(), array(named_struct('x', id, 'y', 'e'), NULL)), "
    "map('k', named_struct('z', id / 3), 'n', NULL)"
)
_PARTITIONED = (
    "id BIGINT, v STRING, p_date DATE, p_ts TIMESTAMP, p_ntz TIMESTAMP_NTZ, p_dec DECIMAL(6,2), "
    "p_str STRING, p_bool BOOLEAN, p_double DOUBLE, p_bin BINARY, p_byte TINYINT, p_int INT"
)
_PARTITIONED_FILL = (
    "id, concat('v', id), IF(id % 2 = 0, DATE'2026-11-20', NULL), "
    "timestamp_micros(1700000000123456 + id % 2), TIMESTAMP_NTZ'1969-12-31 23:59:59.5', "
    "CAST(id % 2 AS DECIMAL(6,2)), "
    "CASE id % 2 WHEN 0 THEN 'a b/ü=%\"''#?:*' ELSE '' END, id % 2 = 0, 1.5D - id % 2, "
    "CAST('ab' AS BINARY), CAST(id % 2 AS TINYINT), -7"
)

FEATURE_TABLES = (
    FeatureTable("plain", _table(_PLAIN)),
    FeatureTable("deletion_vectors", _table(_PLAIN, _DELETION_VECTORS)),
    FeatureTable(
        "row_tracking", _table(_PLAIN, _DELETION_VECTORS, "'delta.enableRowTracking' = 'true'")
    ),
    FeatureTable(
        "in_commit_timestamps",
        _table(_PLAIN, _DELETION_VECTORS, "'delta.enableInCommitTimestamps' = 'true'"),
    ),
    FeatureTable("clustering", _table(_PLAIN, _DELETION_VECTORS, clause="CLUSTER BY (id)")),
    FeatureTable(
        "column_mapping_name",
        _table(_NESTED, _DELETION_VECTORS, "'delta.columnMapping.mode' = 'name'"),
        fill=_NESTED_FILL,
        evolve=(
            "ALTER TABLE {table} RENAME COLUMN v TO `new name`",
            "ALTER TABLE {table} DROP COLUMN m",
            "ALTER TABLE {table} RENAME COLUMN s.a TO aa",
            "ALTER TABLE {table} ADD COLUMN m STRING",
        ),
        fill_evolved=f"{_NESTED_FILL.rpartition(', map(')[0]}, 'again'",
        value="`new name`",
    ),
    FeatureTable(
        "column_mapping_id",
        _table(_NESTED, _DELETION_VECTORS, "'delta.columnMapping.mode' = 'id'"),
        fill=_NESTED_FILL,
        evolve=("ALTER TABLE {table} RENAME COLUMN v TO w",),
        value="w",
    ),
    FeatureTable(
        "column_mapping_upgraded",
        _table(_PLAIN),
        evolve=(
            "ALTER TABLE {table} SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name', "
            "'delta.minReaderVersion' = '2', 'delta.minWriterVersion' = '5')",
            "ALTER TABLE {table} RENAME COLUMN v TO w",
        ),
        value="w",
    ),
    FeatureTable(
        "column_mapping_partitioned",
        _table(
            "id BIGINT, v STRING, p INT", _DELETION_VECTORS, "'delta.columnMapping.mode' = 'name'",
            clause="PARTITIONED BY (p)",
        ),
        fill="id, concat('v', id), CAST(id % 2 AS INT)",
        evolve=("ALTER TABLE {table} RENAME COLUMN p TO part",),
    ),
    FeatureTable(
        "type_widening",
        _table(
            "id BIGINT, v STRING, i SMALLINT, f FLOAT, d DECIMAL(6,2), n DATE, "
            "s STRUCT<a: INT, l: ARRAY<TINYINT>>",
            _DELETION_VECTORS, "'delta.enableTypeWidening' = 'true'",
            "'delta.feature.timestampNtz' = 'supported'",
        ),
        fill=(
            "id, concat('v', id), CAST(id AS SMALLINT), CAST(id AS FLOAT) / 3, "
            "CAST(id AS DECIMAL(6,2)), DATE'2026-11-20', "
            "named_struct('a', CAST(id AS INT), 'l', array(CAST(1 AS TINYINT)))"
        ),
        evolve=(
            "ALTER TABLE {table} ALTER COLUMN i TYPE INT",
            "ALTER TABLE {table} ALTER COLUMN f TYPE DOUBLE",
            "ALTER TABLE {table} ALTER COLUMN d TYPE DECIMAL(12,4)",
            "ALTER TABLE {table} ALTER COLUMN n TYPE TIMESTAMP_NTZ",
            "ALTER TABLE {table} ALTER COLUMN s.a TYPE BIGINT",
            "ALTER TABLE {table} ALTER COLUMN s.l.element TYPE INT",
            "ALTER TABLE {table} ALTER COLUMN i TYPE BIGINT",
        ),
        fill_evolved=(
            "id, concat('v', id), id * 10000000000, id / 3D, CAST(id / 7 AS DECIMAL(12,4)), "
            "TIMESTAMP_NTZ'2026-11-20 10:11:12.123456', "
            "named_struct('a', id * 10000000000, 'l', array(70000))"
        ),
        sought=(
            "i = 50",
            "f > 20",
            "d = 50",
            "n = TIMESTAMP_NTZ'2026-11-20 00:00:00'",
            "s.a = 50",
        ),
    ),
    FeatureTable(
        "v2_checkpoint",
        _table(
            _PLAIN, _DELETION_VECTORS, "'delta.checkpointPolicy' = 'v2'",
            "'delta.checkpointInterval' = '4'",
        ),
    ),
    FeatureTable(
        "checkpoint_multipart",
        _table(_PLAIN, _DELETION_VECTORS, "'delta.checkpointInterval' = '4'"),
        settings=("SET spark.databricks.delta.checkpoint.partSize = 3",),
    ),
    FeatureTable(
        "checkpoint_struct_stats",
        _table(
            "id BIGINT, v STRING, p INT", "'delta.checkpointInterval' = '4'",
            "'delta.checkpoint.writeStatsAsStruct' = 'true'",
            "'delta.checkpoint.writeStatsAsJson' = 'false'",
            clause="PARTITIONED BY (p)",
        ),
        fill="id, concat('v', id), CAST(id % 2 AS INT)",
    ),
    FeatureTable(
        "change_data_feed",
        _table(_PLAIN, "'delta.enableChangeDataFeed' = 'true'"),
    ),
    FeatureTable(
        "constraints",
        _table("id BIGINT NOT NULL, v STRING", _DELETION_VECTORS),
        evolve=("ALTER TABLE {table} ADD CONSTRAINT positive CHECK (id >= 0)",),
    ),
    FeatureTable(
        "generated_columns",
        _table(
            "id BIGINT, v STRING, half BIGINT GENERATED ALWAYS AS (CAST(id / 2 AS BIGINT)), "
            "day INT GENERATED ALWAYS AS (CAST(id % 2 AS INT))",
            clause="PARTITIONED BY (day)",
        ),
        columns="id, v",
    ),
    FeatureTable(
        "identity_columns",
        _table("id BIGINT, v STRING, k BIGINT GENERATED ALWAYS AS IDENTITY (START WITH 5)"),
        columns="id, v",
    ),
    FeatureTable(
        "column_defaults",
        _table(
            "id BIGINT, v STRING, d STRING DEFAULT 'x'",
            "'delta.feature.allowColumnDefaults' = 'supported'",
        ),
        columns="id, v",
    ),
    FeatureTable(
        "partitioned",
        _table(
            _PARTITIONED, _DELETION_VECTORS,
            clause="PARTITIONED BY (p_date, p_ts, p_ntz, p_dec, p_str, p_bool, p_double, p_bin, "
            "p_byte, p_int)",
        ),
        fill=_PARTITIONED_FILL,
        sought=(
            "p_str = ''",
            "p_ts = timestamp_micros(1700000000123456)",
            "p_ntz < TIMESTAMP_NTZ'1970-01-01 00:00:00'",
            "p_dec = 1",
            "p_date IS NULL",
            "p_double = 0.5",
        ),
    ),
    FeatureTable(
        "timestamp_ntz",
        _table("id BIGINT, v STRING, n TIMESTAMP_NTZ, z TIMESTAMP, d DATE", _DELETION_VECTORS),
        fill=(
            "id, concat('v', id), CAST(timestamp_micros(id * 86399999999 - 5) AS TIMESTAMP_NTZ), "
            "timestamp_micros(-1 - id), DATE'0001-01-03'"
        ),
        sought=(
            "n = CAST(timestamp_micros(50 * 86399999999 - 5) AS TIMESTAMP_NTZ)",
            "z >= timestamp_micros(-30)",
            "d = DATE'0001-01-03'",
        ),
    ),
    FeatureTable(
        "variant",
        _table("id BIGINT, v STRING, j VARIANT", _DELETION_VECTORS),
        fill="id, concat('v', id), parse_json(concat('{\"a\": [', id, ', null]}'))",
        shown="id, v, to_json(j) AS j",
    ),
    FeatureTable("nested", _table(_NESTED, _DELETION_VECTORS), fill=_NESTED_FILL),
    FeatureTable(
        "evolved",
        _table(_PLAIN, _DELETION_VECTORS),
        evolve=(
            "ALTER TABLE {table} ADD COLUMN (a INT FIRST, b STRUCT<c: STRING> AFTER id)",
            "ALTER TABLE {table} ALTER COLUMN v FIRST",
        ),
        fill_evolved="concat('v', id), 7, id, named_struct('c', 'c')",
    ),
    FeatureTable(
        "append_only",
        _table(_PLAIN, "'delta.appendOnly' = 'true'"),
        is_append_only=True,
    ),
    FeatureTable(
        "few_statistics",
        _table(
            "id BIGINT, v STRING, w STRING", "'delta.dataSkippingStatsColumns' = 'w'",
            "'delta.randomizeFilePrefixes' = 'true'",
        ),
        fill="id, concat('v', id), repeat('long ü', 20)",
        sought=(
            "w = repeat('long ü', 20)",
            "w > repeat('long ü', 19)",
        ),
    ),
    FeatureTable(
        "vacuum_protocol_check",
        _table(_PLAIN, "'delta.feature.vacuumProtocolCheck' = 'supported'"),
    ),
    FeatureTable("shallow_clone", _table(_PLAIN, _DELETION_VECTORS), is_cloned=True),
    FeatureTable(
        "lakehouse",
        _table(
            "id BIGINT, v STRING, s STRUCT<a: INT>",
            _DELETION_VECTORS,
            "'delta.enableRowTracking' = 'true'",
            "'delta.enableInCommitTimestamps' = 'true'",
            "'delta.columnMapping.mode' = 'name'",
            "'delta.checkpointPolicy' = 'v2'",
            "'delta.checkpointInterval' = '5'",
            clause="CLUSTER BY (id)",
        ),
        fill="id, concat('v', id), named_struct('a', CAST(id AS INT))",
        evolve=("ALTER TABLE {table} RENAME COLUMN s.a TO b",),
    ),
    FeatureTable(
        "iceberg_compat",
        _table(
            "id BIGINT, v STRING, l ARRAY<INT>", "'delta.enableIcebergCompatV2' = 'true'",
            "'delta.columnMapping.mode' = 'name'",
        ),
        fill="id, concat('v', id), array(1, CAST(id AS INT))",
    ),
)  # fmt: skip
