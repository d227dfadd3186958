"""The tables of Hudi that Spark makes for our tests: every version, type, index and merge mode."""

from __future__ import annotations

from dataclasses import replace

from tests.judges.hudi_tables import (
    COMMIT_TIME,
    COPY_ON_WRITE,
    DELETES,
    EVENT_TIME,
    FIRST,
    RECORD_INDEX,
    RUN_COMPACTION,
    SCHEDULE_COMPACTION,
    SECOND,
    THIRD,
    UNPARTITIONED,
    USUAL,
    Call,
    HudiTable,
    Write,
    changes,
    options,
)

MERGE_ON_READ = "MERGE_ON_READ"
NO_ORDERING = {"hoodie.datasource.write.precombine.field": ""}
BUCKETS = {"hoodie.index.type": "BUCKET", "hoodie.bucket.index.num.buckets": "2"}
CONSISTENT = {**BUCKETS, "hoodie.index.bucket.engine": "CONSISTENT_HASHING"}
# Every insert makes file groups of its own.
SCATTERED = {"hoodie.parquet.small.file.limit": "0"}
SCHEDULE_CLUSTERING = Call(
    "CALL run_clustering(op => 'schedule', path => '{path}', order => 'id',"
    " options => 'hoodie.clustering.inline.max.commits=1,{told}')"
)
RUN_CLUSTERING = Call("CALL run_clustering(op => 'execute', path => '{path}', options => '{told}')")
REGISTER = Call("CREATE TABLE {table} USING hudi LOCATION '{path}'")
FORGET = Call("DROP TABLE {table}")
# What asks for a lock provider takes it from the session.
SINGLE_WRITER = Call(
    "SET hoodie.write.lock.provider=org.apache.hudi.client.transaction.lock.InProcessLockProvider"
)
CREATE_INDEX = Call("CREATE INDEX amounts ON {table} (amount)")
ARCHIVING = {
    "hoodie.keep.min.commits": "3",
    "hoodie.keep.max.commits": "4",
    "hoodie.clean.commits.retained": "2",
    "hoodie.commits.archival.batch": "1",
}
REFUSED = {
    "hoodie.precommit.validators": (
        "org.apache.hudi.client.validator.SqlQuerySingleResultPreCommitValidator"
    ),
    "hoodie.precommit.validators.single.value.sql.queries": (
        "SELECT count(*) < 0 FROM <TABLE_NAME>#true"
    ),
}


def keygen(name: str) -> dict[str, str]:
    return {"hoodie.datasource.write.keygenerator.class": f"org.apache.hudi.keygen.{name}"}


def payload(name: str) -> dict[str, str]:
    return {"hoodie.datasource.write.payload.class": f"org.apache.hudi.common.model.{name}"}


def mor(version: int, *layers: dict[str, str]) -> dict[str, str]:
    return options(version, MERGE_ON_READ, EVENT_TIME, *layers)


def cow(version: int, *layers: dict[str, str]) -> dict[str, str]:
    return options(version, COPY_ON_WRITE, EVENT_TIME, *layers)


INSERTS = (
    Write(changes("('a1', 10L, 'p1', 1.0D)", "('b1', 10L, 'p2', 2.0D)"), "insert"),
    Write(changes("('a3', 10L, 'p1', 3.0D)", "('b2', 10L, 'p2', 4.0D)"), "insert"),
    Write(changes("('a2', 10L, 'p1', 5.0D)", "('c1', 10L, 'p3', 6.0D)"), "insert"),
)
SOFT = "SELECT * FROM VALUES {} AS t(id, ts, part, amount, _hoodie_is_deleted)"
SOFT_DELETES = (
    Write(
        SOFT.format(
            "('a1', 10L, 'p1', 1.0D, false), ('a2', 10L, 'p1', 2.0D, false),"
            "('a3', 10L, 'p1', 3.0D, false), ('b1', 10L, 'p2', 4.0D, false)"
        )
    ),
    Write(
        SOFT.format(
            "('a1', 11L, 'p1', 1.5D, true), ('a2', 9L, 'p1', 2.5D, true),"
            "('a3', 12L, 'p1', 3.5D, false), ('b1', 10L, 'p2', 4.5D, true)"
        )
    ),
    Write(
        SOFT.format(
            "('a1', 10L, 'p1', 1.7D, false), ('a3', 11L, 'p1', 3.7D, true),"
            "('b2', 10L, 'p2', 5.0D, false)"
        )
    ),
)
TWO_LEVELS = "SELECT * FROM VALUES {} AS t(id, kind, ts, part, region, amount)"
TWO_LEVEL_STEPS = (
    Write(
        TWO_LEVELS.format(
            "('a1', 1, 10L, 'p 1', 'eu/west', 1.0D), ('a1', 2, 10L, 'p 1', 'us', 2.0D),"
            "('a2', 1, 10L, 'p:2', 'eu/west', 3.0D), ('a3', 1, 10L, 'größe', 'us', 4.0D),"
            "('a4', 1, 10L, NULL, 'us', 5.0D)"
        )
    ),
    Write(
        TWO_LEVELS.format(
            "('a1', 1, 11L, 'p 1', 'eu/west', 1.5D), ('a3', 1, 11L, 'größe', 'us', 4.5D),"
            "('a4', 1, 11L, NULL, 'us', 5.5D)"
        )
    ),
)
# What is not encoded must be fit for a path as it is.
PLAIN_LEVEL_STEPS = tuple(
    replace(step, rows=step.rows.replace("eu/west", "eu").replace("p:2", "p2"))
    for step in TWO_LEVEL_STEPS
)
TWO_LEVEL_KEYS = {
    "hoodie.datasource.write.recordkey.field": "id,kind",
    "hoodie.datasource.write.partitionpath.field": "part,region",
    **keygen("ComplexKeyGenerator"),
}
HIVE_STYLE = {"hoodie.datasource.write.hive_style_partitioning": "true"}
URL_ENCODED = {"hoodie.datasource.write.partitionpath.urlencode": "true"}
DATED = "SELECT * FROM VALUES {} AS t(id, ts, part, amount)"
DATED_STEPS = (
    Write(
        DATED.format(
            "('a1', 10L, 1700000000L, 1.0D), ('a2', 10L, 1700000001L, 2.0D),"
            "('b1', 10L, 1710000000L, 3.0D)"
        )
    ),
    Write(DATED.format("('a1', 11L, 1700000000L, 1.5D), ('b1', 9L, 1710000000L, 3.5D)")),
)
BY_DAY = {
    "hoodie.keygen.timebased.timestamp.type": "UNIX_TIMESTAMP",
    "hoodie.keygen.timebased.output.dateformat": "yyyy/MM/dd",
    "hoodie.keygen.timebased.timezone": "UTC",
}
TYPES = """
SELECT id, ts, part,
  CAST(ts + 0.25 AS DECIMAL(12, 2)) AS small_decimal,
  CAST(ts * 1000000000 + 0.125 AS DECIMAL(30, 10)) AS wide_decimal,
  CAST('2024-02-29' AS DATE) + CAST(ts AS INT) AS day,
  TIMESTAMP '2024-02-29 12:34:56.789123' AS micros,
  TIMESTAMP_NTZ '2024-02-29 12:34:56.789123' AS local_micros,
  CAST(id AS BINARY) AS raw,
  CAST(ts AS INT) AS number, CAST(ts AS FLOAT) AS ratio, ts > 10 AS flag,
  named_struct('x', ts, 'inner', named_struct('y', id, 'z', CAST(NULL AS STRING))) AS nested,
  array(ts, ts + 1) AS numbers,
  array(named_struct('v', id)) AS structs,
  map('k', ts, id, NULL) AS pairs,
  CASE WHEN ts > 10 THEN NULL ELSE id END AS nullable_text
FROM VALUES {} AS t(id, ts, part)
"""
TYPE_STEPS = (
    Write(TYPES.format("('a1', 10L, 'p1'), ('a2', 10L, 'p1'), ('b1', 10L, 'p2')")),
    Write(TYPES.format("('a1', 11L, 'p1'), ('b1', 9L, 'p2')")),
)
STRANGE_KEYS = (
    Write(
        changes(
            "('schlüssel', 10L, 'p1', 1.0D)",
            "('鍵', 10L, 'p1', 2.0D)",
            "('🗝', 10L, 'p1', 3.0D)",
            "('a,b:c', 10L, 'p1', 4.0D)",
            "(' ', 10L, 'p1', 5.0D)",
            "('\\\"q\\\"', 10L, 'p1', 6.0D)",
        )
    ),
    Write(changes("('schlüssel', 11L, 'p1', 1.5D)", "('鍵', 11L, 'p1', 2.5D)")),
    Write(changes("('🗝', 11L, 'p1', 3.5D)"), "delete"),
)
WIDER = "SELECT * FROM VALUES {} AS t(id, ts, part, amount, note)"
EVOLVED = (
    FIRST,
    Write(WIDER.format("('a1', 11L, 'p1', 1.5D, 'new'), ('b1', 11L, 'p2', 5.5D, NULL)")),
    Write(WIDER.format("('a1', 12L, 'p1', 1.7D, 'newer')")),
)
NARROW = "SELECT * FROM VALUES {} AS t(id, ts, part, amount)"
PROMOTED = (
    Write(NARROW.format("('a1', 10L, 'p1', 1), ('a2', 10L, 'p1', 2), ('b1', 10L, 'p2', 3)")),
    Write(NARROW.format("('a1', 11L, 'p1', 5000000000L), ('b1', 11L, 'p2', 7L)")),
)
ORDERED_BY_TWO = "SELECT * FROM VALUES {} AS t(id, ts, seq, part, amount)"
ORDERED_BY_TWO_STEPS = (
    Write(ORDERED_BY_TWO.format("('a1', 10L, 1, 'p1', 1.0D), ('a2', 10L, 5, 'p1', 2.0D)")),
    Write(ORDERED_BY_TWO.format("('a1', 10L, 2, 'p1', 1.5D), ('a2', 10L, 4, 'p1', 2.5D)")),
)
MOVES = (
    FIRST,
    Write(changes("('a1', 11L, 'p2', 1.5D)", "('a2', 9L, 'p3', 2.5D)", "('d1', 1L, 'p4', 9.0D)")),
    Write(changes("('a1', 12L, 'p1', 1.7D)")),
)
PARTIAL_UPDATE = Call(
    "MERGE INTO {table} t USING (SELECT 'a1' AS id, 'p1' AS part, 11L AS ts, 1.5D AS amount"
    " UNION ALL SELECT 'b1', 'p2', 9L, 5.5D) s ON t.id = s.id AND t.part = s.part"
    " WHEN MATCHED THEN UPDATE SET t.amount = s.amount, t.ts = s.ts"
)
SECOND_PARTIAL_UPDATE = Call(
    "MERGE INTO {table} t USING (SELECT 'a1' AS id, 'p1' AS part, 12L AS ts, 'late' AS note)"
    " s ON t.id = s.id AND t.part = s.part"
    " WHEN MATCHED THEN UPDATE SET t.note = s.note, t.ts = s.ts"
)
NOTED = Write(
    WIDER.format(
        "('a1', 10L, 'p1', 1.0D, 'one'), ('a2', 10L, 'p1', 2.0D, 'two'),"
        "('b1', 10L, 'p2', 3.0D, 'three')"
    )
)


def many(count: int) -> tuple[Write, ...]:
    """Return so many small upserts after the first write."""
    return tuple(
        Write(changes(f"('a{i % 4 + 1}', {20 + i}L, 'p1', {i}.5D)", f"('n{i}', 1L, 'p2', 0.5D)"))
        for i in range(count)
    )


ACTIVE = (
    HudiTable("v6_mor", mor(6), USUAL, has_statistics=True),
    HudiTable("v8_mor", mor(8), USUAL, has_statistics=True),
    HudiTable("v9_mor", mor(9), USUAL, has_statistics=True),
    HudiTable(
        "v9_mor_unpartitioned_commit_time",
        options(9, MERGE_ON_READ, UNPARTITIONED, COMMIT_TIME),
        USUAL,
    ),
    HudiTable("v6_mor_commit_time", options(6, MERGE_ON_READ, COMMIT_TIME), USUAL),
    HudiTable("v8_mor_commit_time", options(8, MERGE_ON_READ, COMMIT_TIME), USUAL),
    HudiTable("v9_mor_no_ordering", options(9, MERGE_ON_READ, NO_ORDERING), USUAL),
    HudiTable("v6_cow", cow(6), USUAL),
    HudiTable("v8_cow", cow(8), USUAL),
    HudiTable("v9_cow", cow(9), USUAL, has_statistics=True),
    HudiTable("v9_mor_no_metadata", mor(9, {"hoodie.metadata.enable": "false"}), USUAL),
)
SERVICED = (
    *(
        HudiTable(
            f"v{version}_mor_compaction_pending",
            mor(version),
            (*USUAL, SCHEDULE_COMPACTION),
            (RUN_COMPACTION,),
            has_statistics=version == 9,
        )
        for version in (6, 8, 9)
    ),
    HudiTable("v9_mor_compacted", mor(9), (*USUAL, SCHEDULE_COMPACTION, RUN_COMPACTION, SECOND)),
    HudiTable(
        "v9_mor_written_while_compaction_pending",
        mor(9),
        (FIRST, SECOND, SCHEDULE_COMPACTION, DELETES, THIRD),
        (RUN_COMPACTION,),
    ),
    HudiTable(
        "v6_mor_written_while_compaction_pending",
        mor(6),
        (FIRST, SECOND, SCHEDULE_COMPACTION, DELETES, THIRD),
        (RUN_COMPACTION,),
    ),
    HudiTable(
        "v9_mor_record_index_compaction_pending",
        mor(9, RECORD_INDEX),
        (*USUAL, SCHEDULE_COMPACTION),
        (RUN_COMPACTION,),
        has_statistics=True,
    ),
    *(
        HudiTable(
            f"v{version}_cow_clustering_pending",
            cow(version, SCATTERED),
            (*INSERTS, SCHEDULE_CLUSTERING),
            (RUN_CLUSTERING,),
            has_statistics=version == 9,
        )
        for version in (6, 8, 9)
    ),
    *(
        HudiTable(
            f"v{version}_mor_clustering_pending",
            mor(version, SCATTERED),
            (*INSERTS, SECOND, SCHEDULE_CLUSTERING),
            (RUN_CLUSTERING,),
            has_statistics=version == 9,
        )
        for version in (6, 9)
    ),
    HudiTable(
        "v9_cow_record_index_clustering_pending",
        cow(9, SCATTERED, RECORD_INDEX),
        (*INSERTS, SCHEDULE_CLUSTERING),
        (RUN_CLUSTERING,),
        has_statistics=True,
    ),
    *(
        HudiTable(
            f"v{version}_cow_scattered",
            cow(version, SCATTERED),
            INSERTS,
            has_statistics=version == 9,
        )
        for version in (6, 8, 9)
    ),
    *(
        HudiTable(
            f"v{version}_mor_scattered",
            mor(version, SCATTERED),
            (*INSERTS, SECOND),
            has_statistics=version == 9,
        )
        for version in (6, 9)
    ),
    HudiTable(
        "v9_cow_record_index_scattered",
        cow(9, SCATTERED, RECORD_INDEX),
        INSERTS,
        has_statistics=True,
    ),
    HudiTable("v6_mor_archived", mor(6, ARCHIVING), (FIRST, *many(8))),
    HudiTable("v9_mor_archived", mor(9, ARCHIVING), (FIRST, *many(8))),
    HudiTable("v9_cow_archived", cow(9, ARCHIVING), (FIRST, *many(8))),
)
INDEXED = (
    HudiTable("v8_mor_record_index", mor(8, RECORD_INDEX), USUAL, has_statistics=True),
    HudiTable("v9_mor_simple_index", mor(9, {"hoodie.index.type": "SIMPLE"}), USUAL),
    HudiTable("v6_mor_bucket_index", mor(6, BUCKETS), USUAL),
    HudiTable("v9_mor_bucket_index", mor(9, BUCKETS), USUAL),
    HudiTable("v9_mor_consistent_bucket_index", mor(9, CONSISTENT), USUAL),
    HudiTable(
        "v9_mor_global_bloom_index",
        mor(
            9,
            {
                "hoodie.index.type": "GLOBAL_BLOOM",
                "hoodie.bloom.index.update.partition.path": "true",
            },
        ),
        MOVES,
    ),
    HudiTable(
        "v9_mor_partitioned_record_index",
        mor(
            9,
            {
                "hoodie.metadata.record.level.index.enable": "true",
                "hoodie.index.type": "RECORD_LEVEL_INDEX",
            },
        ),
        USUAL,
    ),
    HudiTable(
        "v9_mor_bloom_in_metadata",
        mor(9, {"hoodie.metadata.index.bloom.filter.enable": "true"}),
        USUAL,
    ),
    HudiTable(
        "v9_mor_secondary_index",
        mor(9, RECORD_INDEX),
        (FIRST, REGISTER, SINGLE_WRITER, CREATE_INDEX, SECOND, FORGET),
    ),
)
MERGED = (
    *(HudiTable(f"v{version}_mor_soft_deletes", mor(version), SOFT_DELETES) for version in (6, 9)),
    HudiTable(
        "v9_mor_partial_updates",
        mor(9),
        (NOTED, REGISTER, PARTIAL_UPDATE, SECOND_PARTIAL_UPDATE, FORGET),
    ),
    HudiTable(
        "v8_mor_partial_updates",
        mor(8),
        (NOTED, REGISTER, PARTIAL_UPDATE, SECOND_PARTIAL_UPDATE, FORGET),
    ),
    HudiTable(
        "v9_mor_two_ordering_fields",
        mor(9, {"hoodie.datasource.write.precombine.field": "ts,seq"}),
        ORDERED_BY_TWO_STEPS,
    ),
    HudiTable(
        "v9_mor_partial_update_payload",
        options(9, MERGE_ON_READ, payload("PartialUpdateAvroPayload")),
        (
            NOTED,
            Write(WIDER.format("('a1', 11L, 'p1', CAST(NULL AS DOUBLE), 'x')")),
            Write(WIDER.format("('a1', 12L, 'p1', 9.0D, CAST(NULL AS STRING))")),
        ),
    ),
    HudiTable(
        "v6_mor_custom_payload",
        options(6, MERGE_ON_READ, payload("OverwriteNonDefaultsWithLatestAvroPayload")),
        USUAL,
    ),
)
PLACED = (
    HudiTable("v9_mor_two_levels", mor(9, TWO_LEVEL_KEYS, URL_ENCODED), TWO_LEVEL_STEPS),
    HudiTable(
        "v9_mor_hive_style", mor(9, TWO_LEVEL_KEYS, HIVE_STYLE, URL_ENCODED), TWO_LEVEL_STEPS
    ),
    HudiTable("v6_mor_hive_style", mor(6, TWO_LEVEL_KEYS, HIVE_STYLE), PLAIN_LEVEL_STEPS),
    HudiTable(
        "v9_mor_timestamp_keys", mor(9, keygen("TimestampBasedKeyGenerator"), BY_DAY), DATED_STEPS
    ),
    HudiTable(
        "v9_mor_custom_keys",
        mor(
            9,
            keygen("CustomKeyGenerator"),
            BY_DAY,
            {
                "hoodie.datasource.write.partitionpath.field": "part:TIMESTAMP,id:SIMPLE",
                "hoodie.keygen.timebased.output.dateformat": "yyyyMMdd",
            },
        ),
        DATED_STEPS,
    ),
    HudiTable("v6_mor_unpartitioned", mor(6, UNPARTITIONED), USUAL),
)
LOGGED = (
    HudiTable(
        "v9_mor_parquet_logs", mor(9, {"hoodie.logfile.data.block.format": "parquet"}), USUAL
    ),
    # Spark itself fails to read what it has written so.
    HudiTable(
        "v9_mor_hfile_logs",
        mor(9, {"hoodie.logfile.data.block.format": "hfile"}),
        USUAL,
        is_readable=False,
    ),
    HudiTable("v9_mor_cdc", mor(9, {"hoodie.table.cdc.enabled": "true"}), USUAL),
    HudiTable("v9_cow_cdc", cow(9, {"hoodie.table.cdc.enabled": "true"}), USUAL),
    HudiTable(
        "v9_mor_log_compacted",
        mor(
            9,
            {
                "hoodie.log.compaction.enable": "true",
                "hoodie.log.compaction.inline": "true",
                "hoodie.log.compaction.blocks.threshold": "1",
            },
        ),
        (*USUAL, *many(2)),
    ),
    *(
        HudiTable(
            f"v{version}_{kind}_failed_write",
            layered(version),
            (FIRST, SECOND, Write(THIRD.rows, options=REFUSED, fails=True)),
            (THIRD,),
        )
        for version in (6, 9)
        for kind, layered in (("mor", mor), ("cow", cow))
    ),
)
TYPED = (
    *(HudiTable(f"v{version}_mor_types", mor(version), TYPE_STEPS) for version in (6, 9)),
    HudiTable(
        "v9_mor_types_parquet_logs",
        mor(9, {"hoodie.logfile.data.block.format": "parquet"}),
        TYPE_STEPS,
    ),
    HudiTable("v9_mor_strange_keys", mor(9), STRANGE_KEYS),
    *(HudiTable(f"v{version}_mor_evolved", mor(version), EVOLVED) for version in (6, 9)),
    HudiTable("v9_mor_promoted", mor(9), PROMOTED),
    HudiTable("v9_mor_no_meta_fields", mor(9, {"hoodie.populate.meta.fields": "false"}), USUAL),
)
TABLES = (*ACTIVE, *SERVICED, *INDEXED, *MERGED, *PLACED, *LOGGED, *TYPED)
