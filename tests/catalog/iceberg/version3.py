"""An Iceberg table of format version 3, with a writer at its side that the library lacks.

It writes data files and deletion vectors and commits them; its manifests go through our codec, for
no other one in Python writes them. Row ids are read by fastavro, by the rules of the specification.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile as AnyDataFile
from pyiceberg.manifest import DataFileContent, FileFormat, ManifestContent, ManifestEntryStatus
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate
from pyiceberg.typedef import Record

from catalog.iceberg.data_file import DataFile, described
from catalog.iceberg.entries import live_entries, manifests_of
from catalog.iceberg.manifest_entries import Entry
from catalog.iceberg.manifest_lists import (
    ListedManifest,
    ListHeader,
    with_row_ids,
    write_manifest_list,
)
from catalog.iceberg.manifest_writing import ManifestForm, begin
from catalog.iceberg.marking import vector_file
from catalog.iceberg.metadata_json import write_metadata_with_every_field
from catalog.iceberg.vector_files import TARGET, file_of_vectors, placed_in
from catalog.location import Location
from catalog.model import KEEP_ALL
from tests.catalog.conformance import Row
from tests.catalog.groups import pick, read_group
from tests.catalog.iceberg.lakes import IcebergLake, rows_of
from tests.iceberg_tables import sql_catalog

_ROW_ID, _VERSION = "_row_id", "_last_updated_sequence_number"
_DELETED = 2


class Version3Lake(IcebergLake):
    """A partitioned table whose rows have ids."""

    def __init__(self, directory: Path, catalog: Catalog | None = None) -> None:
        if catalog is None:
            catalog = sql_catalog(directory)
            write_metadata_with_every_field(catalog)
        super().__init__(directory, 3, catalog)

    def append(self, ids: Sequence[int], part: str = "a") -> str:
        return self.append_file(self.as_table(rows_of(ids, part)), part)

    def append_file(self, rows: pa.Table, part: str, *removed: str) -> str:
        """Commit a file of rows in the place of others."""
        path = self._write(rows, part)
        self.commit([self._data_file(path, rows.num_rows, part)], removed)
        return path

    def delete(self, positions: Mapping[str, Sequence[int]]) -> None:
        """Delete rows by new vectors, which take the place of those before."""
        snapshot = self.table.snapshot()
        files, inventory = self.table.files(snapshot), self.table.inventory(snapshot)
        before = files.selections(pick(inventory, *positions))
        puffin = file_of_vectors(
            {
                path: np.union1d(np.array(some, np.int64), before.get(path, KEEP_ALL).dropped)
                for path, some in positions.items()
            }
        )
        path = Path(Location.parse(self.other.location()).path) / f"data/{uuid.uuid4()}.puffin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(puffin.content)
        live = {entry.path: entry.data_file for _, entry in self._live()}
        self.commit(
            [
                vector_file(f"file://{path}", len(puffin.content), one, like=live[target])
                for one in placed_in(puffin, "new")
                for target in [one.properties[TARGET]]
            ],
            [
                entry.name
                for _, entry in self._live()
                if entry.data_file.referenced_data_file in positions
            ],
        )

    def remove(self, path: str) -> None:
        self.commit([], [path])

    def delete_where(self, ids: Sequence[int]) -> None:
        """Delete rows copy-on-write."""
        snapshot = self.table.snapshot()
        files, inventory = self.table.files(snapshot), self.table.inventory(snapshot)
        for path in inventory.files["path"].to_pylist():
            rows = read_group(files, pick(inventory, path))[0]
            kept = rows.filter(pa.array([one not in ids for one in rows["id"].to_pylist()]))
            if kept.num_rows < rows.num_rows:
                self.append_file(kept, rows["part"][0].as_py(), path)

    def update(self, path: str, positions: Sequence[int], text: str) -> str:
        snapshot = self.table.snapshot()
        files, inventory = self.table.files(snapshot), self.table.inventory(snapshot)
        rows = read_group(files, pick(inventory, path))[0].to_pylist()
        for position in positions:
            rows[position] |= {"text": text, _VERSION: None}
        written = pa.Table.from_pylist(rows, files.schema.written)
        return self.append_file(written, rows[0]["part"], path)

    def rows(self, snapshot_id: str | None = None) -> list[Row]:
        scan = self.other.scan(
            selected_fields=("id", "part", "text"),
            snapshot_id=int(snapshot_id) if snapshot_id else None,
        )
        return sorted(tuple(row.values()) for row in scan.to_arrow().to_pylist())

    def lineage(self, snapshot_id: str | None = None) -> dict[int, tuple[int, int]]:
        found: dict[int, tuple[int, int]] = {}
        snapshot = self.table.snapshot(snapshot_id)
        gone = self.table.files(snapshot).selections(self.table.inventory(snapshot))
        for file, first, version in self._files_by_fastavro(snapshot_id):
            stored = pq.ParquetFile(file["file_path"].removeprefix("file://")).read()
            ids, versions = self._stored(stored, _ROW_ID), self._stored(stored, _VERSION)
            dropped = set(gone.get(file["file_path"], KEEP_ALL).dropped.tolist())
            for at, identity in enumerate(stored["id"].to_pylist()):
                if at not in dropped:
                    assert identity not in found
                    row_id = first + at if ids[at] is None else ids[at]
                    found[identity] = (row_id, version if versions[at] is None else versions[at])
        assert sorted(found) == [row[0] for row in self.rows(snapshot_id)]
        return found

    @staticmethod
    def _stored(rows: pa.Table, name: str) -> list[Any]:
        return rows[name].to_pylist() if name in rows.column_names else [None] * rows.num_rows

    def _files_by_fastavro(
        self, snapshot_id: str | None
    ) -> Iterator[tuple[dict[str, Any], int, int]]:
        """Yield data files with the id of their first row, and their sequence number."""
        metadata = self.other.metadata
        number = int(snapshot_id) if snapshot_id else metadata.current_snapshot_id
        snapshot = metadata.snapshot_by_id(number)
        assert snapshot is not None
        for manifest in self._records(snapshot.manifest_list):
            following = manifest["first_row_id"]
            for entry in (
                self._records(manifest["manifest_path"]) if not manifest["content"] else ()
            ):
                file = entry["data_file"]
                if entry["status"] == _DELETED:
                    continue
                first = file["first_row_id"]
                if first is None:
                    first, following = following, following + file["record_count"]
                own = entry["sequence_number"]
                yield file, first, manifest["sequence_number"] if own is None else own

    @staticmethod
    def _records(path: str) -> list[Any]:
        with Path(Location.parse(path).path).open("rb") as source:
            return list(fastavro.reader(source))

    def as_table(self, rows: pa.Table) -> pa.Table:
        """Return rows with the ids of their columns."""
        ids = {"id": b"1", "part": b"2", "text": b"3"}
        fields = [one.with_metadata({b"PARQUET:field_id": ids[one.name]}) for one in rows.schema]
        return pa.table(rows.columns, schema=pa.schema(fields))

    def _write(self, rows: pa.Table, part: str) -> str:
        directory = Path(Location.parse(self.other.location()).path) / f"data/part={part}"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{uuid.uuid4()}.parquet"
        pq.write_table(rows, path)
        return f"file://{path}"

    def _data_file(self, path: str, count: int, part: str) -> DataFile:
        return described(
            0,
            {
                "content": DataFileContent.DATA,
                "file_path": path,
                "file_format": FileFormat.PARQUET,
                "partition": Record(part),
                "record_count": count,
                "file_size_in_bytes": Path(Location.parse(path).path).stat().st_size,
            },
        )

    @staticmethod
    def as_own(file: AnyDataFile) -> DataFile:
        """Return a file that was described for version 2."""
        own = DataFile(*(file[place] for place in range(len(file))), *[None] * (20 - len(file)))
        own.spec_id = file.spec_id
        return own

    def data_files(self) -> list[DataFile]:
        """Return the live data files."""
        files = (entry.data_file for _, entry in self._live())
        return [one for one in files if one.content == DataFileContent.DATA]

    def _live(self) -> Iterator[tuple[ListedManifest, Entry]]:
        table = self.other
        head = table.metadata.current_snapshot()
        for manifest in manifests_of(head, table.io) if head else ():
            for entry in live_entries(manifest, table.io):
                yield manifest, entry

    def commit(self, added: Sequence[DataFile], removed: Sequence[str]) -> None:
        """Commit a snapshot that adds files and removes others, known by their names."""
        table, live = self.other, list(self._live())
        assert set(removed) <= {entry.name for _, entry in live}
        touched = {one.manifest_path for one, entry in live if entry.name in removed}
        kept = {one.manifest_path: one for one, _ in live if one.manifest_path not in touched}
        number = uuid.uuid4().int >> 65
        entries = [
            *(Entry.added(one, snapshot_id=number, sequence_number=None) for one in added),
            *(
                replace(entry, status=ManifestEntryStatus.DELETED, snapshot_id=number)
                if entry.name in removed
                else replace(entry, status=ManifestEntryStatus.EXISTING)
                for one, entry in live
                if one.manifest_path in touched
            ),
        ]
        manifests = [
            self._manifest(content, number, some)
            for content in ManifestContent
            if (some := [one for one in entries if self._content(one) == content])
        ]
        self._swap(table, number, [*manifests, *kept.values()], bool(removed))

    @staticmethod
    def _content(entry: Entry) -> ManifestContent:
        is_data = entry.data_file.content == DataFileContent.DATA
        return ManifestContent.DATA if is_data else ManifestContent.DELETES

    def _manifest(
        self, content: ManifestContent, number: int, entries: Sequence[Entry]
    ) -> ListedManifest:
        table = self.other
        form = ManifestForm(3, table.spec(), table.schema(), content, number, "null")
        making = begin(form, entries)
        for one in entries:
            making.add(one)
        path = f"{table.location()}/metadata/{uuid.uuid4()}.avro"
        data, listed = making.finish(path)
        Path(Location.parse(path).path).write_bytes(data)
        return listed

    def _swap(
        self, table: Any, number: int, manifests: Sequence[ListedManifest], removes: bool
    ) -> None:
        metadata = table.metadata
        head = metadata.current_snapshot()
        parent = None if head is None else head.snapshot_id
        first = metadata.next_row_id
        listed, following = with_row_ids(manifests, first)
        sequence = metadata.next_sequence_number()
        header = ListHeader(3, number, parent, sequence, first)
        path = f"{table.location()}/metadata/snap-{number}.avro"
        content = write_manifest_list(header, listed, codec="null")
        Path(Location.parse(path).path).write_bytes(content)
        snapshot = Snapshot(
            snapshot_id=number,
            parent_snapshot_id=parent,
            sequence_number=sequence,
            manifest_list=path,
            timestamp_ms=metadata.last_updated_ms + 1,
            summary=Summary(Operation.OVERWRITE if removes else Operation.APPEND),
            schema_id=0,
            first_row_id=first,
            added_rows=following - first,
        )
        table.catalog.commit_table(
            table,
            (AssertRefSnapshotId(ref="main", snapshot_id=parent),),
            (
                AddSnapshotUpdate(snapshot=snapshot),
                SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=number),
            ),
        )
