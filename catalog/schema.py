"""The columns of a table: what readers see, what files store, by which ids they are found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

# Where Arrow keeps the field id of a Parquet column.
FIELD_ID_KEY = b"PARQUET:field_id"

# The id of the column that rows are told apart by, in the formats that have one: Iceberg's own.
ROW_ID_FIELD = 2147483540


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The columns of a snapshot as readers see them.

    Attributes:
        arrow: top-level and nested fields carry their id in the metadata key `PARQUET:field_id`;
            nullability is the table's.
        name_mapping: (path of names, field id) for data files that were written without field
            ids; empty when the table has none.
        has_field_ids: whether field ids mean anything in data files. Where they do not, columns
            are found by `name_mapping` alone, and outputs carry none.
        unstored: ids of the top-level columns that `TableFiles.fillings` gives to readers whatever
            a file holds; outputs do without them.
        named: ids of the top-level columns that go by their names in data files that have field
            ids, too; outputs carry none for them.
        ignores_field_ids: whether all columns are found by `name_mapping`, although outputs carry
            field ids: those in data files may be anything.
        known_as: (path that people know, path in files) of all columns and of the fields of
            structs; empty where these are the same.
        shown: the columns as people know them, with the same ids, in the same order; None where
            their names are those in files.
        own: ids of the top-level columns that the table fills by itself: changes have none of them,
            see `catalog.table.RowKeeper`.
    """

    arrow: pa.Schema
    name_mapping: tuple[tuple[tuple[str, ...], int], ...] = ()
    has_field_ids: bool = True
    unstored: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()
    ignores_field_ids: bool = False
    known_as: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    shown: pa.Schema | None = None
    own: frozenset[int] = frozenset()

    @property
    def stored(self) -> TableSchema:
        """The columns that outputs have."""
        if not self.unstored:
            return self
        fields = [field for field in self.arrow if field_id(field) not in self.unstored]
        return replace(self, arrow=pa.schema(fields), unstored=frozenset())

    @property
    def goes_by_own_names(self) -> bool:
        """Whether readers find each column of an output, which is declared by its own name."""
        names = set(named_ids(self.stored.arrow))
        return self.has_field_ids or names <= set(self.name_mapping)

    @property
    def written(self) -> pa.Schema:
        """The schema that outputs are written with, with field ids where they have them."""
        stored = self.stored.arrow
        if not self.has_field_ids:
            return pa.schema([_bare(one) for one in stored])
        return pa.schema([_bare(one) if field_id(one) in self.named else one for one in stored])

    @property
    def leaf_columns(self) -> int:
        """Number of columns that a file stores, nested ones counted by their leaves."""
        return sum(_leaves(field.type) for field in self.stored.arrow)


def _bare(field: pa.Field) -> pa.Field:
    """Return a field without metadata, what is nested in it included."""
    kind = field.type
    if isinstance(kind, pa.StructType):
        kind = pa.struct([_bare(child) for child in kind.fields])
    elif isinstance(kind, pa.MapType):
        kind = pa.map_(_bare(kind.key_field), _bare(kind.item_field))
    elif isinstance(kind, pa.ListType):
        kind = pa.list_(_bare(kind.value_field))
    return pa.field(field.name, kind, field.nullable)


def named_ids(
    fields: Iterable[pa.Field], parent: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the path of names and the id of each field, nested ones by the names of the format."""
    for one in fields:
        path, kind, number = (*parent, one.name), one.type, field_id(one)
        if number is not None:
            yield path, number
        if isinstance(kind, pa.StructType):
            yield from named_ids(kind.fields, path)
        elif isinstance(kind, pa.MapType):
            inner = (kind.key_field.with_name("key"), kind.item_field.with_name("value"))
            yield from named_ids(inner, path)
        elif isinstance(kind, pa.ListType):
            yield from named_ids([kind.value_field.with_name("element")], path)


def field_id(field: pa.Field) -> int | None:
    """Return the id that a field carries; None when it has none."""
    text = (field.metadata or {}).get(FIELD_ID_KEY)
    return None if text is None else int(text)


def _leaves(kind: pa.DataType) -> int:
    if isinstance(kind, pa.MapType):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    return sum(_leaves(kind.field(index).type) for index in range(kind.num_fields)) or 1
