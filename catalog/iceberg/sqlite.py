"""A catalog in a SQLite file, of which one table is wanted: that takes one row of the database.

Half of the time to plan a table would go into loading what PyIceberg's SQL catalog is made of. So
tables are looked up here, and PyIceberg's own catalog is opened when anything else is asked of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pyiceberg.catalog import Catalog
from pyiceberg.io import load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table

_SCHEME = "sqlite:///"
# Settings that say how PyIceberg's catalog talks to its database: only it heeds them.
_ITS_OWN = {"py-catalog-impl", "echo", "pool_pre_ping", "schema_version"}
_TABLE = """select metadata_location from iceberg_tables
    where catalog_name = ? and table_namespace = ? and table_name = ?"""
# Views are listed with the tables, but by catalogs of the first kind, which lack the column.
_IS_TABLE = " and (iceberg_type = 'TABLE' or iceberg_type is null)"
_LACKING = "no such column"


def database_of(settings: Mapping[str, Any]) -> Path | None:
    """Return the SQLite file of a catalog; None for any other catalog, and for odd addresses."""
    uri = str(settings.get("uri", ""))
    if settings.get("type", "sql") != "sql" or _ITS_OWN & settings.keys():
        return None
    if not uri.startswith(_SCHEME) or any(sign in uri for sign in "?#%"):
        return None
    path = Path(uri.removeprefix(_SCHEME))
    return path if path.is_file() else None


class SqliteTables:
    """Loads tables; whatever else a catalog does is done by the one that `opened` returns."""

    def __init__(self, name: str, settings: Mapping[str, Any], opened: Callable[[], Catalog]):
        self.name = name
        self.properties = dict(settings)
        self._opened = opened
        self._catalog: Catalog | None = None

    def load_table(self, identifier: tuple[str, ...]) -> Table:
        """Load a table as PyIceberg's catalog does; it is asked itself where we find none.

        Raises:
            NoSuchTableError: there is none.
            CatalogError: the database cannot be read.
        """
        location = ""
        # What a writer left half done, for one, goes with the next who may write.
        with suppress(sqlite3.Error):
            location = self._location(".".join(identifier[:-1]), identifier[-1])
        if not location:
            return self._whole().load_table(identifier)
        io = load_file_io(self.properties, location)
        metadata = FromInputFile.table_metadata(io.new_input(location))
        properties = {**self.properties, **metadata.properties}
        return Table(
            identifier=identifier,
            metadata=metadata,
            metadata_location=location,
            io=load_file_io(properties, location),
            catalog=self,  # type: ignore[arg-type]  # asks the other one to commit
        )

    def _location(self, namespace: str, table: str) -> str:
        path = database_of(self.properties)
        if path is None:
            raise sqlite3.OperationalError("unable to open database file")
        uri = f"file:{quote(str(path))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            values = (self.name, namespace, table)
            try:
                row = database.execute(_TABLE + _IS_TABLE, values).fetchone()
            except sqlite3.OperationalError as fault:
                if _LACKING not in str(fault):
                    raise
                row = database.execute(_TABLE, values).fetchone()
        return str(row[0]) if row and row[0] else ""

    def _whole(self) -> Catalog:
        if self._catalog is None:
            self._catalog = self._opened()
        return self._catalog

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._whole(), attribute)
