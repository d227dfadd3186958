"""Where the metadata of many tables of a catalog lies now: one question where a catalog has SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from sqlalchemy import select

from catalog.errors import CatalogError, TableNotFoundError
from catalog.iceberg.catalogs import catalog_errors, open_catalog

Identifier = tuple[str, ...]


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
    for identifier in identifiers:
        yield _of_table(catalog, identifier)


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


def _of_table(catalog: Catalog, identifier: Identifier) -> str | CatalogError:
    try:
        with catalog_errors(f"{catalog.name}.{'.'.join(identifier)}"):
            return catalog.load_table(identifier).metadata_location
    except CatalogError as error:
        return error


def _missing(catalog: Catalog, identifier: Identifier) -> CatalogError:
    return TableNotFoundError(f"{catalog.name}.{'.'.join(identifier)} does not exist")
