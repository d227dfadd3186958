"""File slices made by hand: a base file and log files of any blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.avro.records import record_writer
from catalog.hudi.delete_records import DeletedKey, encode_deletes
from catalog.hudi.log_blocks import BlockKind, HeaderKey, encode_block
from catalog.hudi.log_records import avro_content
from catalog.hudi.log_scan import LogScope
from catalog.hudi.merging import Merging, SliceFiles, StoredFile, merge_slice
from catalog.hudi.protocol import MergeMode, MergeRule
from catalog.hudi.schema import META_COLUMNS, RECORD_KEY, arrow_schema, parse_avro
from catalog.hudi.timeline import Action, Instant, State, Timeline, timeline_of
from catalog.location import Location
from catalog.model import Selection
from catalog.storage import Storage

Row = Mapping[str, Any]


def avro_text(**columns: Any) -> str:
    """Return the schema of a table with these columns, all of them nullable."""
    fields = [(name, "string") for name in META_COLUMNS] + list(columns.items())
    return json.dumps(
        {
            "type": "record",
            "name": "row",
            "fields": [
                {"name": name, "type": ["null", kind], "default": None} for name, kind in fields
            ],
        }
    )


def data_block(text: str, rows: Iterable[Row], instant: str = "20", **more: str) -> bytes:
    """Return an Avro data block."""
    write = record_writer(json.loads(text))
    bodies = []
    for row in rows:
        out = bytearray()
        write(out, {**row, RECORD_KEY: row["id"]} if "id" in row else row)
        bodies.append(bytes(out))
    return encode_block(
        BlockKind.AVRO_DATA, header(instant, SCHEMA=text, **more), avro_content(bodies)
    )


def parquet_block(text: str, rows: Sequence[Row], instant: str = "20", **more: str) -> bytes:
    """Return a Parquet data block."""
    sink = pa.BufferOutputStream()
    pq.write_table(keyed(text, rows), sink)
    found = header(instant, SCHEMA=text, **more)
    return encode_block(BlockKind.PARQUET_DATA, found, sink.getvalue().to_pybytes())


def delete_block(deletes: Iterable[DeletedKey], instant: str = "20") -> bytes:
    """Return a delete block."""
    return encode_block(BlockKind.DELETE, header(instant), encode_deletes(deletes))


def rollback_block(target: str, instant: str = "30") -> bytes:
    """Return a block that takes back what an instant wrote."""
    found = header(instant, TARGET_INSTANT_TIME=target, COMMAND_BLOCK_TYPE="0")
    return encode_block(BlockKind.COMMAND, found, b"")


def header(instant: str, **more: str) -> dict[HeaderKey, str]:
    return {HeaderKey.INSTANT_TIME: instant, **{HeaderKey[key]: one for key, one in more.items()}}


def keyed(text: str, rows: Sequence[Row]) -> pa.Table:
    """Return rows with their record keys, which are their `id`."""
    schema = arrow_schema(parse_avro(text))
    return pa.Table.from_pylist([{**row, RECORD_KEY: row["id"]} for row in rows], schema=schema)


def completed(*instants: str, layout: int = 2) -> Timeline:
    """Return a timeline of completed deltacommits."""
    ends = [None if layout == 1 else str(int(time) + 1) for time in instants]
    return timeline_of(
        [
            Instant(time, Action.DELTACOMMIT, State.COMPLETED, end, "")
            for time, end in zip(instants, ends, strict=True)
        ],
        layout=layout,
    )


class Slice:
    """A slice in a directory: base rows if any, then log files."""

    def __init__(self, directory: Path, text: str, base: Sequence[Row] | None = None) -> None:
        self.directory, self.text = directory, text
        self.base: StoredFile | None = None
        self.rows = list(base or ())
        self.logs: list[StoredFile] = []
        if base is not None:
            path = directory / "a_0-1-2_10.parquet"
            pq.write_table(keyed(text, base), path, row_group_size=3)
            self.base = stored(path)

    def log(self, *blocks: bytes) -> Slice:
        """Add a log file of these blocks."""
        path = self.directory / f".a_20.log.{len(self.logs) + 1}_0-1-2"
        path.write_bytes(b"".join(blocks))
        self.logs.append(stored(path))
        return self

    def merged(self, rule: MergeRule | None = None, **more: Any) -> Selection:
        """Merge the slice."""
        scope = LogScope("", more.pop("timeline", completed("10", "20")), **more.pop("scope", {}))
        schema = more.pop("schema", arrow_schema(parse_avro(self.text)))
        found = rule or MergeRule(MergeMode.COMMIT_TIME)
        merging = Merging(schema, found, scope, **more)
        return merge_slice(Storage(), SliceFiles(self.base, tuple(self.logs)), merging)

    def read(self, rule: MergeRule | None = None, **more: Any) -> list[dict[str, Any]]:
        """Return the rows of the slice as readers see them, without meta columns."""
        selection = self.merged(rule, **more)
        names = [field["name"] for field in parse_avro(self.text)["fields"]]
        names = [name for name in names if name not in META_COLUMNS]
        gone = set(selection.dropped.tolist())
        rows = [row for number, row in enumerate(self.rows) if number not in gone]
        kept = [{name: row.get(name) for name in names} for row in rows]
        tail = [row for batch in selection.tail.batches(names) for row in batch.to_pylist()]
        assert len(tail) == selection.tail.row_count
        return kept + tail


def stored(path: Path) -> StoredFile:
    return StoredFile(Location.parse(str(path)), path.stat().st_size)
