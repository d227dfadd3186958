"""Completed commits as other writers read them: JSON until version 6, Avro since 8.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from catalog.commits import OutputFile, Rewrite
from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import container
from catalog.hudi.details import PlannedSlice
from catalog.hudi.file_names import read_name
from catalog.model import FileSlice

UPSERT = "UPSERT"
_NO_COMMIT = "null"


@dataclass(frozen=True, slots=True)
class WrittenBase:
    """A base file that a commit adds.

    Attributes:
        partition_path: empty for an unpartitioned table.
        file: what was written.
        folded: the slice whose logs it has taken up; None for a file group of its own.
        dropped: rows of that slice's base file that are not in it.
        came: rows that are in it and not in that: of the slice's logs, and of a change.
    """

    partition_path: str
    file: OutputFile
    folded: FileSlice | None = None
    dropped: int = 0
    came: int = 0

    @property
    def name(self) -> str:
        """Its name."""
        return self.file.path.rpartition("/")[2]

    @property
    def file_id(self) -> str:
        """Its file group."""
        return read_name(self.file.path).file_id

    @property
    def previous_name(self) -> str | None:
        """The base file that it takes the place of in its file group; None for none."""
        if self.folded is None or not self.folded.size_bytes:
            return None
        return self.folded.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class WrittenLog:
    """A log file that a commit adds.

    Attributes:
        partition_path: empty for an unpartitioned table.
        name: its name.
        file_id: its file group.
        size_bytes: its length.
        record_count: of data and deletes in it.
        number: the one in its name.
        base_name: name of the base file that it goes with; empty where writers do not say.
    """

    partition_path: str
    name: str
    file_id: str
    size_bytes: int
    record_count: int
    number: int = 1
    base_name: str = ""


def folded(rewrite: Rewrite) -> list[WrittenBase]:
    """Return what was written for one slice."""
    (file,) = rewrite.files.slices()
    came = rewrite.rows_tail + rewrite.rows_added
    return [
        WrittenBase(file.partition_key, one, file, rewrite.rows_dropped, came)
        for one in rewrite.added
    ]


def replacing(rewrite: Rewrite) -> list[WrittenBase]:
    """Return what was written in the place of several slices."""
    return [WrittenBase(rewrite.target_key, one) for one in rewrite.added]


def write_body(
    written: Iterable[WrittenBase | WrittenLog],
    operation: str,
    *,
    layout: int,
    extra: Mapping[str, str],
    replaced: Mapping[str, Iterable[str]] | None = None,
) -> bytes:
    """Return the content of a completed instant of any operation, by Hudi's name for it.

    Args:
        written: its files.
        operation: the name.
        layout: of the timeline.
        extra: further pairs, `schema` among them.
        replaced: ids of the file groups that are gone, by partition path, of what replaces some.
    """
    stats: dict[str, list[dict[str, Any]]] = {}
    for one in written:
        found = _log_stat(one) if isinstance(one, WrittenLog) else _base_stat(one)
        stats.setdefault(one.partition_path, []).append(found)
    return _body(stats, operation, layout=layout, extra=extra, replaced=replaced)


def planned_body(
    planned: Iterable[PlannedSlice], *, layout: int, extra: Mapping[str, str]
) -> bytes:
    """Return what a write says while it runs: the file slices that it will change."""
    stats: dict[str, list[dict[str, Any]]] = {}
    for one in planned:
        place = (one.partition_path, one.file_id, one.base_file)
        found = {**_stat(*place, 0, 0), "prevCommit": one.base_instant}
        stats.setdefault(one.partition_path, []).append(found)
    return _body(stats, UPSERT, layout=layout, extra=extra, replaced=None)


def _body(
    stats: Mapping[str, list[dict[str, Any]]],
    operation: str,
    *,
    layout: int,
    extra: Mapping[str, str],
    replaced: Mapping[str, Iterable[str]] | None,
) -> bytes:
    record: dict[str, Any] = {
        "partitionToWriteStats": stats,
        "compacted": operation == "COMPACT",
        "extraMetadata": dict(extra),
        "operationType": operation,
    }
    if replaced is not None:
        record["partitionToReplaceFileIds"] = {key: list(ids) for key, ids in replaced.items()}
    if layout == 1:
        return json.dumps(record, indent=2).encode()
    # Only Avro says so by a null.
    record["version"] = None
    return container(Kind.COMMIT if replaced is None else Kind.REPLACE_COMMIT, [record])


def _base_stat(written: WrittenBase) -> dict[str, Any]:
    rows = written.file.row_count
    return {
        **_stat(*_place(written), written.file.size_bytes, rows),
        "numInserts": rows if written.folded is None else 0,
        "prevBaseFile": written.previous_name,
        **({} if written.folded is None else _merged(written, written.folded)),
    }


def _log_stat(written: WrittenLog) -> dict[str, Any]:
    return {
        **_stat(*_place(written), written.size_bytes, written.record_count),
        "prevCommit": read_name(written.name).instant,
        "numUpdateWrites": written.record_count,
        "logVersion": written.number,
        "logOffset": 0,
        "baseFile": written.base_name,
        "logFiles": [written.name],
    }


def _place(written: WrittenBase | WrittenLog) -> tuple[str, str, str]:
    return written.partition_path, written.file_id, written.name


def _stat(partition: str, file_id: str, name: str, size_bytes: int, count: int) -> dict[str, Any]:
    return {
        "fileId": file_id,
        "path": f"{partition}/{name}" if partition else name,
        "cdcStats": None,
        "prevCommit": _NO_COMMIT,
        "numWrites": count,
        "numDeletes": 0,
        "numUpdateWrites": 0,
        "numInserts": 0,
        "numUpdates": 0,
        "totalWriteBytes": size_bytes,
        "totalWriteErrors": 0,
        "tempPath": None,
        "partitionPath": partition,
        "totalLogRecords": 0,
        "totalLogFilesCompacted": 0,
        "totalLogSizeCompacted": 0,
        "totalLogReadTimeMs": 0,
        "totalUpdatedRecordsCompacted": 0,
        "totalLogBlocks": 0,
        "totalCorruptLogBlock": 0,
        "totalRollbackBlocks": 0,
        "fileSizeInBytes": size_bytes,
        "prevBaseFile": None,
        "minEventTime": None,
        "maxEventTime": None,
        "runtimeStats": {"totalScanTime": 0, "totalUpsertTime": 0, "totalCreateTime": 0},
    }


def _merged(written: WrittenBase, file: FileSlice) -> dict[str, Any]:
    """Return what is said of logs. Who replaces whom is not counted: the least that it can be."""
    updated = min(written.dropped, written.came)
    records = sum(one.row_count for one in file.deletes) or written.came
    return {
        "prevCommit": str(file.sequence_number),
        "numDeletes": written.dropped - updated,
        "numUpdateWrites": updated,
        "numInserts": written.came - updated,
        "totalLogRecords": records,
        "totalUpdatedRecordsCompacted": written.came,
        "totalLogFilesCompacted": len(file.deletes),
        "totalLogBlocks": len(file.deletes),
        "totalLogSizeCompacted": sum(one.size_bytes for one in file.deletes),
    }
