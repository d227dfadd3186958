"""Which rows of data files readers no longer see, from delete files of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from catalog.iceberg.position_deletes import read_positions
from catalog.model import Inventory, Selection

if TYPE_CHECKING:
    from catalog.iceberg.files import IcebergFiles


def read_selections(files: Inventory, table: IcebergFiles) -> Mapping[str, Selection]:
    """Return the rows that each data file loses; every delete file is read once.

    Raises:
        CorruptTableError: a delete file cannot be read, or names rows that do not exist.
        StorageFullError: there is no room for keys that memory does not hold.
        UnsupportedTableError: rows are deleted by a column in a form that cannot be compared.
    """
    found = dict(read_positions(files, table.storage, table.locate))
    if files.has_equality_deletes:
        from catalog.iceberg.equality_deletes import KeySource, read_equality  # lazy: seldom

        types = table.key_types()
        defaults = dict((*table.dropped_defaults, *table.defaults))
        source = KeySource(
            storage=table.storage,
            locate=table.locate,
            types=types,
            mapping=dict(table.schema.name_mapping),
            constants=lambda file: {**defaults, **table.fixed(file, types)},
        )
        for path, parts in read_equality(files, source).items():
            known = [found[path].dropped] if path in found else []
            found[path] = Selection.of(np.concatenate([*known, *parts]))
    return found
