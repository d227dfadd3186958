"""Where the metadata of many tables of a catalog lies now: one question where a catalog has SQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from sqlalchemy import select

from catalog.errors import CatalogError, StorageError, TableNotFoundError
from catalog.iceberg.catalogs import catalog_errors, open_catalog

Identifier = tuple[str, ...]
# A catalog of its own protocol is asked table by table: so many questions are under way at once.
_THREADS = 8
# So many questions in a row without an answer, and no further one is asked.
_FAILURES_MAX = 20


def metadata_heads(
    catalog_name: str, identifiers: Sequence[Identifier]
) -> Iterator[str | CatalogError]:
    """Yield where the metadata of each table lies, in the order given, or why it cannot be told."""
    try:
        catalog = open_catalog(catalog_name)
        if isinstance(catalog, SqlCatalog):
            yield from _of_sql(catalog, identifiers)
            return
    except CatalogError as error:
        yield from (error for _ in identifiers)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(_Loader(catalog_name).head, identifiers)


def _of_sql(catalog: SqlCatalog, identifiers: Sequence[Identifier]) -> list[str | CatalogError]:
    """Read the pointers of all tables of the namespaces asked for at once."""
    columns = IcebergTables.table_namespace, IcebergTables.table_name
    query = select(*columns, IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == catalog.name
    )
    namespaces = {".".join(one[:-1]) for one in identifiers}
    if len(namespaces) == 1:
        query = query.where(IcebergTables.table_namespace == next(iter(namespaces)))
    with catalog_errors(f"the catalog {catalog.name}"), catalog.engine.connect() as connection:
        found = {(row[0], row[1]): row[2] for row in connection.execute(query)}
    return [
        found.get((".".join(one[:-1]), one[-1])) or _missing(catalog, one) for one in identifiers
    ]


class _Loader:
    """Loads tables in several threads, each with a client of its own, unless nobody answers."""

    def __init__(self, catalog_name: str) -> None:
        self._catalog_name = catalog_name
        self._local = threading.local()
        self._failures = 0

    def head(self, identifier: Identifier) -> str | CatalogError:
        """Return where the metadata of a table lies, or why it cannot be told."""
        name = f"{self._catalog_name}.{'.'.join(identifier)}"
        if self._failures >= _FAILURES_MAX:
            return StorageError(f"{name} was not asked for: the catalog does not answer")
        try:
            with catalog_errors(name):
                head = self._catalog().load_table(identifier).metadata_location
        except StorageError as error:
            self._failures += 1
            return error
        except CatalogError as error:
            return error
        self._failures = 0
        return head

    def _catalog(self) -> Catalog:
        if not hasattr(self._local, "catalog"):
            self._local.catalog = open_catalog(self._catalog_name)
        catalog: Catalog = self._local.catalog
        return catalog


def _missing(catalog: Catalog, identifier: Identifier) -> CatalogError:
    return TableNotFoundError(f"{catalog.name}.{'.'.join(identifier)} does not exist")
