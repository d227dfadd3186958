"""A streaming writer of upserts: rows, equality and position deletes in one commit, every second.

Usage: python -m tests.acceptance.upsert_writer DIRECTORY STOP

It does what Flink's writer does: an equality delete for each key that comes, so that older rows of
it are gone; and where a key comes twice within one commit, a position delete for the first of the
two. It prints the version of each key after every commit, and ends once the file STOP is there.
"""

from __future__ import annotations

import json
import random
import sys
import time
import uuid
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
)
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from sqlalchemy.exc import OperationalError

from catalog.iceberg.row_delta import RowDelta
from tests.iceberg_tables import sql_catalog, write_key_deletes, write_position_deletes

PARTS = ("even", "odd")
KEYS = 4000
_UPSERTS = 40
_TWICE = 3
_PERIOD_SECONDS = 1.0


class _Upsert(RowDelta):
    """A snapshot of data files and delete files."""

    def __init__(self, transaction: Any, io: Any, rows: Sequence[DataFile], *, gone: Any) -> None:
        super().__init__(transaction, io, gone)
        self._rows = rows

    def _manifests(self) -> list[ManifestFile]:
        with write_manifest(
            2,
            self.spec(0),
            self.schema(),
            self.new_manifest_output(),
            self._snapshot_id,
            self._compression,
        ) as writer:
            for file in self._rows:
                entry = ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED,
                    snapshot_id=self._snapshot_id,
                    sequence_number=None,
                    file_sequence_number=None,
                    data_file=file,
                )
                writer.add(entry)
        return [writer.to_manifest_file(), *super()._manifests()]


class UpsertWriter:
    """Keeps the version of each key as of its last commit."""

    def __init__(self, table: Table, seed: int) -> None:
        self.table = table
        self.random = random.Random(seed)
        self.versions: dict[int, int] = {}
        self.number = 0

    def commit(self) -> bool:
        """Upsert some keys; whether the commit got through."""
        self.number += 1
        keys = [*self.random.sample(range(KEYS), _UPSERTS)]
        twice = keys[:_TWICE]
        rows: list[DataFile] = []
        gone: list[DataFile] = []
        for part, name in enumerate(PARTS):
            # What comes twice comes first with a version that nobody may see.
            some = [(key, -self.number) for key in twice if key % 2 == part]
            some += [(key, self.number) for key in keys if key % 2 == part]
            hidden = sum(version < 0 for _, version in some)
            if not some:
                continue
            file = self._data_file(some, name)
            rows.append(file)
            if hidden:
                dropped = {file.file_path: list(range(hidden))}
                gone.append(write_position_deletes(self.table, dropped, like=file))
            distinct = sorted({key for key, _ in some})
            ids = pa.table({"id": pa.array(distinct, pa.int64())})
            gone.append(write_key_deletes(self.table, ids, like=file, has_bounds=True))
        try:
            self._send(rows, gone)
        except (CommitFailedException, OperationalError):
            return False
        self.versions |= dict.fromkeys(keys, self.number)
        return True

    def _send(self, rows: Sequence[DataFile], gone: Sequence[DataFile]) -> None:
        transaction = self.table.refresh().transaction()
        _Upsert(transaction, self.table.io, rows, gone=gone).commit()
        transaction.commit_transaction()

    def _data_file(self, rows: Sequence[tuple[int, int]], part: str) -> DataFile:
        schema = schema_to_pyarrow(self.table.schema(), include_field_ids=True)
        columns = [[key for key, _ in rows], [part] * len(rows), [version for _, version in rows]]
        arrays = [pa.array(one, kind.type) for one, kind in zip(columns, schema, strict=True)]
        sink = BytesIO()
        pq.write_table(pa.table(arrays, schema=schema), sink)
        path = f"{self.table.location()}/data/part={part}/{uuid.uuid4()}.parquet"
        with self.table.io.new_output(path).create() as output:
            output.write(sink.getvalue())
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            partition=Record(part),
            record_count=len(rows),
            file_size_in_bytes=len(sink.getvalue()),
        )
        file.spec_id = 0
        return file


def main(directory: Path, stop: Path) -> None:
    """Commit once a second until told to stop; tell after each commit what must be there."""
    writer = UpsertWriter(sql_catalog(directory).load_table("ns.t"), seed=7)
    commits = 0
    while not stop.exists():
        begun = time.monotonic()
        if writer.commit():
            commits += 1
            sys.stdout.write(json.dumps({"commits": commits, "versions": writer.versions}) + "\n")
            sys.stdout.flush()
        time.sleep(max(0.0, _PERIOD_SECONDS - (time.monotonic() - begun)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
