"""From a target to a source of changes: a table, or a prefix of Parquet files."""

from __future__ import annotations

from collections.abc import Mapping

from catalog.errors import TableNotFoundError, UnsupportedTableError
from catalog.history import HistoricTable
from catalog.location import Location
from catalog.open import is_path, open_table
from catalog.storage import Storage
from compactor.merge.source_files import FileSource
from compactor.merge.source_table import TableSource
from compactor.merge.sources import ChangeSource


def open_source(target: str, properties: Mapping[str, str] | None = None) -> ChangeSource:
    """Open what a target names: a table as `open_table` does, or else the files below a path.

    Args:
        target: of a table, or a path or URI.
        properties: settings of the catalog or storage.

    Raises:
        TableNotFoundError: no such table; a path need not exist.
        UnsupportedTableError: the table has what is not handled, or no history.
        AccessDeniedError, StorageError: it cannot be reached.
    """
    try:
        table = open_table(target, properties)
    except TableNotFoundError:
        if not is_path(target):
            raise
        return FileSource(Storage.from_properties(properties or {}), Location.resolve(target))
    if not isinstance(table, HistoricTable):
        raise UnsupportedTableError(f"{target} is a table that does not tell its history")
    return TableSource(table)
