"""The floor of all that go through the client: read every data file, write one object of them.

Usage: python -m benchmarks.get_and_put TABLE
"""

from __future__ import annotations

import sys

import obstore
from pyiceberg.catalog import load_catalog

from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.clients import open_client

_PIECE_BYTES = 8 << 20


def main() -> None:
    """Copy the bytes of a table's data files, as no table format would have them."""
    name, _, table = sys.argv[1].partition(".")
    implementation = "catalog.iceberg.catalog_io.CatalogFileIO"
    catalog = load_catalog(name, **{"py-io-impl": implementation})
    storage = Storage.from_properties(catalog.properties)
    tasks = list(catalog.load_table(table).scan().plan_files())
    target = Location.parse(tasks[0].file.file_path).parent.child("joined.bin")
    client = open_client("s3", target.authority, properties=storage.properties, retry=storage.retry)
    with obstore.open_writer(client, target.key, buffer_size=_PIECE_BYTES) as output:
        for task in tasks:
            source = Location.parse(task.file.file_path)
            for part in obstore.get(client, source.key).stream(min_chunk_size=_PIECE_BYTES):
                output.write(part)


if __name__ == "__main__":
    main()
