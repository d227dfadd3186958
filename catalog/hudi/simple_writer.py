"""A writer of small Hudi tables: new tables, base files of rows, logs of updates and deletes.

It is the only writer of its table, keeps no metadata table and looks nothing up: who calls it
knows what is where. For tables that are made to be looked at, and for tests.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.avro.records import record_writer
from catalog.commits import OutputFile
from catalog.hudi.commit_bodies import WrittenBase, WrittenLog, write_body
from catalog.hudi.config import format_properties
from catalog.hudi.delete_records import DeletedKey, Ordering, encode_deletes
from catalog.hudi.file_names import read_name
from catalog.hudi.footers import KeyNotes, KeyNotesMaker
from catalog.hudi.instants import InstantWriter, new_instant
from catalog.hudi.log_blocks import BlockKind, HeaderKey, encode_block
from catalog.hudi.log_records import avro_content
from catalog.hudi.partitions import mark_partition
from catalog.hudi.reading import read_pending
from catalog.hudi.schema import META_COLUMNS
from catalog.hudi.table import HudiTable
from catalog.hudi.timeline import Action, Instant
from catalog.location import Confinement, Location
from catalog.model import FileSlice

_TOKEN = "0-0-0"  # noqa: S105 - a write token is no secret
_AVRO = {
    pa.string(): "string",
    pa.int64(): "long",
    pa.int32(): "int",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.timestamp("us", "UTC"): {"type": "long", "logicalType": "timestamp-micros"},
}


@dataclass(frozen=True, slots=True)
class NewTable:
    """What a table is made with.

    Attributes:
        name: of the table.
        columns: of its rows: texts, numbers, booleans and moments.
        key: the column of the record key, a text.
        partition: the column of the partition path, a text; empty for an unpartitioned table.
        ordering: the column that says which of two records is newer; empty for the order of writes.
        version: of the table.
        merges_on_read: whether updates go to logs.
    """

    name: str
    columns: pa.Schema
    key: str
    partition: str = ""
    ordering: str = ""
    version: int = 9
    merges_on_read: bool = True

    @property
    def avro(self) -> str:
        """The Avro schema of its rows."""
        fields = [{"name": one.name, "type": _avro_type(one)} for one in self.columns]
        record = {"type": "record", "name": f"{self.name}_record", "fields": fields}
        return json.dumps({**record, "namespace": f"hoodie.{self.name}"})

    def properties(self) -> dict[str, str]:
        """Return what stands in `hoodie.properties`."""
        by_event = "EVENT_TIME_ORDERING" if self.ordering else "COMMIT_TIME_ORDERING"
        payload = "DefaultHoodieRecord" if self.ordering else "OverwriteWithLatestAvro"
        kind = "MERGE_ON_READ" if self.merges_on_read else "COPY_ON_WRITE"
        found = {
            "hoodie.table.name": self.name,
            "hoodie.table.type": kind,
            "hoodie.table.version": str(self.version),
            "hoodie.table.recordkey.fields": self.key,
            "hoodie.table.partition.fields": self.partition,
            "hoodie.table.ordering.fields": self.ordering,
            "hoodie.table.base.file.format": "PARQUET",
            "hoodie.table.timeline.timezone": "UTC",
            "hoodie.table.checksum": str(zlib.crc32(f".{self.name}".encode())),
            "hoodie.populate.meta.fields": "true",
            "hoodie.datasource.write.drop.partition.columns": "false",
            "hoodie.table.keygenerator.type": "SIMPLE" if self.partition else "NON_PARTITION",
            "hoodie.timeline.layout.version": "1" if self.version < 8 else "2",
        }
        if self.version < 8:
            found["hoodie.compaction.payload.class"] = (
                f"org.apache.hudi.common.model.{payload}Payload"
            )
        else:
            found |= {"hoodie.record.merge.mode": by_event, "hoodie.timeline.path": "timeline"}
        return {key: value for key, value in found.items() if value}


class SimpleWriter:
    """Writes to one table; each call of `write` is a commit of its own."""

    def __init__(self, table: HudiTable, made: NewTable) -> None:
        """Take a table up that `create` has made."""
        self.table = table
        self._made = made
        self._storage, self._root = table.storage, table.root

    @staticmethod
    def create(root: Location, made: NewTable) -> SimpleWriter:
        """Make a table without rows."""
        table = HudiTable(root.path, root, {})
        text = format_properties(made.properties())
        table.storage.write(root.child(".hoodie", "hoodie.properties"), text.encode())
        return SimpleWriter(table, made)

    def insert(self, *parts: pa.Table, row_group_rows: int | None = None) -> list[str]:
        """Write each table of rows, of one partition, as a file group; return their paths."""
        write = self._begin("commit" if not self._made.merges_on_read else "deltacommit")
        files = [
            self._base(write.time, rows, number, row_group_rows=row_group_rows)
            for number, rows in enumerate(parts)
        ]
        self._complete(
            write,
            [WrittenBase(self._path_of(r), f) for r, f in zip(parts, files, strict=True)],
            "INSERT",
        )
        return [one.path for one in files]

    def update(self, file: FileSlice, rows: pa.Table) -> None:
        """Put rows into a log of a slice."""
        body = record_writer(self._stored_avro())
        write = self._begin("deltacommit")
        named = read_name(file.path)
        stored = self._stored(rows, write.time, named.file_id)
        encoded = []
        for row in _plain(stored).to_pylist():
            out = bytearray()
            body(out, row)
            encoded.append(bytes(out))
        self._log(write, file, BlockKind.AVRO_DATA, avro_content(encoded), rows.num_rows)

    def delete(self, file: FileSlice, keys: Iterable[str]) -> None:
        """Delete keys by a log of a slice."""
        deletes = [DeletedKey(key, file.partition_key, Ordering.NONE, None) for key in keys]
        write = self._begin("deltacommit")
        self._log(write, file, BlockKind.DELETE, encode_deletes(deletes), len(deletes))

    def replace(self, files: Sequence[FileSlice]) -> None:
        """Take file groups out of the table with their rows."""
        write = self._begin("replacecommit")
        gone: dict[str, list[str]] = {}
        for one in files:
            gone.setdefault(one.partition_key, []).append(read_name(one.path).file_id)
        self._complete(write, [], "DELETE_PARTITION", gone)

    def _begin(self, action: str) -> Instant:
        source = self.table.source()
        time = new_instant(source.timeline, source.config)
        writing = InstantWriter(self._storage, self._root, source.config)
        return writing.begin(writing.request(time, Action(action)))

    def _complete(
        self,
        write: Instant,
        written: Sequence[WrittenBase | WrittenLog],
        operation: str,
        replaced: dict[str, list[str]] | None = None,
    ) -> None:
        source = self.table.source()
        body = write_body(
            written,
            operation,
            layout=source.config.layout,
            extra={"schema": self._made.avro},
            replaced=replaced,
        )
        writing = InstantWriter(self._storage, self._root, source.config)
        writing.complete(write, body, source.timeline)

    def _base(
        self, time: str, rows: pa.Table, number: int, *, row_group_rows: int | None
    ) -> OutputFile:
        partition = self._path_of(rows)
        name = f"{uuid.uuid4()}-0_{number}-0-0_{time}.parquet"
        location = self._root.child(*filter(None, partition.split("/")), name)
        mark_partition(self._storage, self._root, location, time)
        stored = self._stored(rows, time, name)
        notes = KeyNotes(KeyNotesMaker(self._storage, Confinement((self._root,))))
        for batch in stored.to_batches():
            notes.added(batch)
        with (
            self._storage.open_output(location) as sink,
            pq.ParquetWriter(sink, stored.schema, compression="zstd", store_schema=False) as file,
        ):
            file.write_table(stored, row_group_size=row_group_rows)
            file.add_key_value_metadata(dict(notes.pairs()))
        return OutputFile(str(location), self._storage.size(location), rows.num_rows)

    def _log(
        self, write: Instant, file: FileSlice, kind: BlockKind, content: bytes, count: int
    ) -> None:
        named, is_by_slice = read_name(file.path), self._made.version < 8
        instant, number = write.time, 1
        if is_by_slice:
            # A pending compaction has begun the next slice.
            pending = read_pending(self.table.source()).compactions
            begun = pending.get((file.partition_key, named.file_id))
            instant = begun or named.instant
            number = 1 + sum(read_name(one.path).instant == instant for one in file.deletes)
        name = f".{named.file_id}_{instant}.log.{number}_{_TOKEN}"
        header = {
            HeaderKey.INSTANT_TIME: write.time,
            HeaderKey.SCHEMA: json.dumps(self._stored_avro()),
        }
        block = encode_block(kind, header, content)
        folders = filter(None, file.partition_key.split("/"))
        self._storage.write(self._root.child(*folders, name), block)
        base = named.name if is_by_slice else ""
        log = WrittenLog(file.partition_key, name, named.file_id, len(block), count, number, base)
        self._complete(write, [log], "UPSERT")

    def _stored(self, rows: pa.Table, time: str, file_name: str) -> pa.Table:
        """Return rows with their meta columns."""
        count, partition = rows.num_rows, self._path_of(rows)
        numbers = pc.cast(pa.array(np.arange(count)), pa.string())
        values = (
            pa.repeat(time, count),
            pc.binary_join_element_wise(f"{time}_0", numbers, "_"),
            pc.cast(rows[self._made.key], pa.string()),
            pa.repeat(partition, count),
            pa.repeat(file_name, count),
        )
        columns = [*values, *rows.select(self._made.columns.names).columns]
        fields = [pa.field(name, pa.string()) for name in META_COLUMNS]
        return pa.table(columns, pa.schema([*fields, *self._made.columns]))

    def _stored_avro(self) -> dict[str, object]:
        record = json.loads(self._made.avro)
        meta = [
            {"name": name, "type": ["null", "string"], "default": None} for name in META_COLUMNS
        ]
        return {**record, "fields": [*meta, *record["fields"]]}

    def _path_of(self, rows: pa.Table) -> str:
        return str(rows[self._made.partition][0]) if self._made.partition else ""


def _avro_type(field: pa.Field) -> object:
    kind = _AVRO[field.type]
    return ["null", kind] if field.nullable else kind


def _plain(rows: pa.Table) -> pa.Table:
    """Return rows with moments as the numbers that Avro has."""
    fields = [
        one.with_type(pa.int64()) if pa.types.is_timestamp(one.type) else one for one in rows.schema
    ]
    return rows.cast(pa.schema(fields))
