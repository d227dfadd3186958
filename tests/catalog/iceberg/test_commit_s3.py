"""Commits to a table in a bucket, over the real protocol and through our own file interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException

from catalog.commits import Commit, OutputFile, Rewrite
from catalog.iceberg.table import IcebergTable
from catalog.location import Location
from catalog.model import Selection
from tests.catalog.changes import change_commit
from tests.catalog.iceberg.faults import FaultyCatalog, fail, lose_reply
from tests.catalog.iceberg.lakes import SCHEMA, rows_of
from tests.catalog.storage.s3_server import new_bucket, s3_properties, s3_server
from tests.iceberg_tables import NAMESPACE, rows


def open_catalog(kind: type[SqlCatalog], directory: Path, endpoint: str, bucket: str) -> SqlCatalog:
    return kind(
        "lake",
        **{
            **s3_properties(endpoint),
            "uri": f"sqlite:///{directory}/catalog.db",
            "warehouse": f"{bucket}/warehouse",
            "py-io-impl": "catalog.iceberg.catalog_io.CatalogFileIO",
        },
    )


def plan(table: IcebergTable, commit_id: str) -> Commit:
    """Write every row into one output, through the storage of the table."""
    snapshot = table.snapshot()
    files, inventory = table.files(snapshot), table.inventory(snapshot)
    parts = []
    for one in inventory.slices():
        with files.storage.open_input(files.locate(one.path)) as source:
            parts.append(pq.ParquetFile(source).read().cast(files.schema.arrow))
    content = pa.concat_tables(parts)
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink)
    data = sink.getvalue().to_pybytes()
    location = files.new_location("[0]", f"{commit_id}.parquet")
    files.storage.write(location, data)
    output = OutputFile(str(location), len(data), content.num_rows)
    return Commit(commit_id, snapshot, (Rewrite("g", inventory, (output,), 0),))


def test_a_commit_to_a_bucket_whose_reply_is_lost(tmp_path: Path) -> None:
    with s3_server() as endpoint:
        bucket = str(new_bucket(endpoint))
        catalog = open_catalog(FaultyCatalog, tmp_path, endpoint, bucket)
        catalog.faults = []
        catalog.create_namespace(NAMESPACE)
        writer = catalog.create_table(f"{NAMESPACE}.t", SCHEMA)
        for first in (0, 10, 20):
            writer.append(rows_of(range(first, first + 10), "a"))
        before = rows(writer)
        table = IcebergTable("lake.ns.t", catalog, (NAMESPACE, "t"))
        commit = plan(table, "one")
        catalog.faults = [
            fail(TimeoutError()),
            lose_reply(CommitStateUnknownException("502")),
        ]
        result = table.commit(commit)
        assert (result.committed, result.conflicts) == (("g",), ())
        assert rows(writer) == before
        assert table.inventory(table.snapshot()).file_count == 1
        metadata = Location.parse(f"{writer.location()}/metadata")
        names = {found.location.name for found in table.storage.list(metadata)}
        assert sum(name.startswith("snap-") for name in names) == 4
        assert sum(name.endswith(".metadata.json") for name in names) == 5
        catalog.faults = [fail(TimeoutError()), lose_reply(CommitStateUnknownException("502"))]
        inventory = table.inventory(table.snapshot())
        (path,) = inventory.files["path"].to_pylist()
        marks = {path: Selection(np.array([0, 29]))}
        change = change_commit(table.snapshot(), Rewrite("g", inventory, (), 0, marks=marks))
        result = table.commit(change)
        assert (result.committed, result.snapshot) == (("g",), table.snapshot())
        with table.storage.open_input(table.files(result.snapshot).locate(path)) as source:
            stored = pq.ParquetFile(source).read(columns=["id"])["id"].to_pylist()
        assert sorted(row["id"] for row in rows(writer)) == sorted(stored[1:-1])
        assert table.watermark("orders") == "1"
