"""A Delta table of many data files that exist in its checkpoint alone: input of planning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.tables import Prepared
from catalog.delta.checkpoint_rows import ADD, ROWS, in_column, rows_of

COLUMNS = 20
PARTITIONS = 336
FILE_BYTES_MAX = 8 << 20
ROW_GROUP_FILES = 250_000
VERSION = 10


def prepare_delta_log(directory: Path, files: int) -> Prepared:
    """Make a table whose version 10 is one checkpoint of so many files, unless it is there."""
    prepared = Prepared(directory, (), files * FILE_BYTES_MAX // 2, str(directory))
    ready = directory / f"{files} files"
    if ready.exists():
        return prepared
    shutil.rmtree(directory, ignore_errors=True)
    log = directory / "_delta_log"
    log.mkdir(parents=True)
    with pq.ParquetWriter(log / f"{VERSION:020}.checkpoint.parquet", ROWS) as writer:
        for kind, action in _facts().items():
            writer.write_table(rows_of(kind, [action]))
        for start in range(0, files, ROW_GROUP_FILES):
            count = min(ROW_GROUP_FILES, files - start)
            writer.write_table(_adds(start, count), row_group_size=count)
    info = {"commitInfo": {"timestamp": 1, "operation": "WRITE"}}
    (log / f"{VERSION:020}.json").write_text(json.dumps(info) + "\n")
    (log / "_last_checkpoint").write_text(json.dumps({"version": VERSION, "size": files + 2}))
    ready.touch()
    return prepared


def _facts() -> dict[str, dict[str, object]]:
    columns = [("day", "date"), *((f"column_{at:02}", "long") for at in range(COLUMNS))]
    fields = [{"name": n, "type": k, "nullable": True, "metadata": {}} for n, k in columns]
    metadata = {
        "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": ["day"],
        "configuration": {},
        "createdTime": 1,
    }
    return {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}, "metaData": metadata}


def _adds(start: int, count: int) -> pa.Table:
    """Return one row per file: names of the reference writer, statistics of every column."""
    random = np.random.default_rng(start)
    numbers = np.arange(start, start + count)
    days = _days().take(pa.array(numbers % PARTITIONS))
    names = pa.array([random.bytes(16).hex() for _ in range(count)])
    paths = _joined("day=", days, "/part-00000-", names, "-c000.snappy.parquet")
    offsets = pa.array(np.arange(count + 1, dtype=np.int32))
    keys = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), ["day"])
    children = {
        "path": paths,
        "partitionValues": pa.MapArray.from_arrays(offsets, keys.cast(pa.string()), days),
        "size": pa.array(random.integers(1000, FILE_BYTES_MAX, count)),
        "modificationTime": pa.array(1_790_000_000_000 + numbers * 7),
        "dataChange": pa.array(np.zeros(count, np.bool_)),
        "stats": _stats(random, count),
    }
    arrays = [children.get(field.name, pa.nulls(count, field.type)) for field in ADD]
    return in_column("add", pa.StructArray.from_arrays(arrays, fields=list(ADD)))


def _stats(random: np.random.Generator, count: int) -> pa.StringArray:
    parts: list[object] = ['{"numRecords":', _texts(random, count, 100_000)]
    for kind in ("minValues", "maxValues", "nullCount"):
        parts.append(f',"{kind}":{{')
        for at in range(COLUMNS):
            parts += [f'{"," if at else ""}"column_{at:02}":', _texts(random, count, 1 << 40)]
        parts.append("}")
    return _joined(*parts, "}")


def _texts(random: np.random.Generator, count: int, end: int) -> pa.StringArray:
    return pa.array(random.integers(0, end, count)).cast(pa.string())


def _joined(*parts: object) -> pa.StringArray:
    return pc.binary_join_element_wise(*parts, "")


def _days() -> pa.StringArray:
    first = np.datetime64("2026-01-01", "D")
    return pa.array([str(first + day) for day in range(PARTITIONS)])
