"""The columns that tell rows of a v3 table apart, and tell when they were changed last.

Specification: https://iceberg.apache.org/spec/#row-lineage
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.errors import UnsupportedTableError
from catalog.model import FileSlice, Filling
from catalog.schema import FIELD_ID_KEY, ROW_ID_FIELD

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.table.metadata import TableMetadata

_FORMAT_VERSION = 3
_ROW_ID = (ROW_ID_FIELD, "_row_id")
_ROW_VERSION = (2147483539, "_last_updated_sequence_number")
LINEAGE_IDS = frozenset((_ROW_ID[0], _ROW_VERSION[0]))


def tracks_rows(metadata: TableMetadata) -> bool:
    """Whether the rows of a table have ids."""
    return metadata.format_version >= _FORMAT_VERSION


def refuse_reserved_names(metadata: TableMetadata) -> None:
    """Refuse a table that has columns of its own by the names of those of the format.

    Raises:
        UnsupportedTableError: it has.
    """
    names = {field.name for field in metadata.schema().fields}
    taken = sorted(names & {_ROW_ID[1], _ROW_VERSION[1]})
    if taken and tracks_rows(metadata):
        raise UnsupportedTableError(
            f"the table has a column {taken[0]}, which is the format's own name for something else",
            hint="rename the column, then compact",
        )


def with_lineage(schema: pa.Schema) -> pa.Schema:
    """Return the columns of data files of a table that tracks rows."""
    added = [
        pa.field(name, pa.int64(), metadata={FIELD_ID_KEY: str(number).encode()})
        for number, name in (_ROW_ID, _ROW_VERSION)
    ]
    return pa.schema([*schema, *added])


def lineage_schema(schema: Schema) -> Schema:
    """Return the same of a schema as the table has it."""
    from pyiceberg.schema import Schema  # lazy: workers do without the library
    from pyiceberg.types import LongType, NestedField

    added = [
        NestedField(number, name, LongType(), required=False)
        for number, name in (_ROW_ID, _ROW_VERSION)
    ]
    return Schema(*schema.fields, *added, schema_id=schema.schema_id)


def without_lineage(schema: pa.Schema) -> pa.Schema:
    """Return the columns that people know."""
    names = (_ROW_ID[1], _ROW_VERSION[1])
    return pa.schema([field for field in schema if field.name not in names])


def row_ids(file: FileSlice) -> Mapping[int, Filling]:
    """Return what the rows of a file have where they store no id or no version of their own.

    A version is stored with every row that is moved: for what files leave out, the reference
    implementation takes the number of the snapshot that added them, the specification that of their
    data.
    """
    found = {_ROW_VERSION[0]: Filling(pa.scalar(file.sequence_number), fills_nulls=True)}
    if file.first_row_id is not None:  # else its table was upgraded: the next commit gives ids
        found[_ROW_ID[0]] = Filling(pa.scalar(file.first_row_id), step=1, fills_nulls=True)
    return found
