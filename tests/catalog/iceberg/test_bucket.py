"""An Iceberg table in a bucket: metadata, manifests and delete files through one storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from catalog.errors import StorageError
from catalog.open import open_table
from tests.catalog.storage.s3_server import new_bucket, s3_properties, s3_server
from tests.iceberg_tables import data_files, delete_positions

SCHEMA = pa.schema([pa.field("id", pa.int64())])


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


def test_a_table_in_a_bucket(endpoint: str, tmp_path: Path) -> None:
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": str(new_bucket(endpoint)),
        **s3_properties(endpoint),
    }
    with SqlCatalog(
        "lake", **properties, **{"py-io-impl": "catalog.iceberg.catalog_io.CatalogFileIO"}
    ) as writer:
        writer.create_namespace("ns")
        table = writer.create_table("ns.t", SCHEMA)
        for start in (0, 10):
            table.append(pa.table({"id": range(start, start + 10)}, schema=SCHEMA))
        first = data_files(table)[0]
        delete_positions(table, first, [2, 5])
    opened = open_table("lake.ns.t", properties)
    snapshot = opened.snapshot()
    inventory = opened.inventory(snapshot)
    files = opened.files(snapshot)

    assert inventory.file_count == 2
    assert {path: one.dropped.tolist() for path, one in files.selections(inventory).items()} == {
        first.file_path: [2, 5]
    }
    place = files.new_location(inventory.files["partition_key"][0].as_py(), "x.parquet")
    assert str(place) == f"{properties['warehouse']}/ns/t/data/x.parquet"
    assert "test-secret" not in repr(files)


def test_a_bucket_that_does_not_answer(tmp_path: Path) -> None:
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": f"file://{tmp_path}",
    }
    with SqlCatalog("lake", **properties) as writer:
        writer.create_namespace("ns")
        metadata = "s3://bucket/ns/t/metadata/v1.metadata.json"
        with writer.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name,"
                " metadata_location) VALUES ('lake', 'ns', 't', ?)",
                (metadata,),
            )
    silent = {**properties, **s3_properties("http://127.0.0.1:9"), "s3.connect-timeout": "1"}

    with pytest.raises(StorageError, match=r"v1\.metadata\.json"):
        open_table("lake.ns.t", silent)
