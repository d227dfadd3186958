"""Names of columns: those that people and their changes know, and those in the files of a table.

Formats that let columns be renamed keep another name in data files. Everything that follows the
reading of changes goes by the names in files; here changes get them, fields of structs included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
from pyarrow import types

from catalog.schema import TableSchema, field_id
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import Source, changeable
from compactor.merge.rules import MergeRules
from compactor.merge.sources import Arrivals, ChangedPart


@dataclass(frozen=True, slots=True)
class Naming:
    """The columns that changes may have, twice.

    Attributes:
        shown: by the names that people know.
        stored: the same by the names in files.
    """

    shown: pa.Schema
    stored: pa.Schema

    @staticmethod
    def of(schema: TableSchema) -> Naming:
        """Return the names of a table's columns."""
        stored = changeable(schema)
        if schema.shown is None:
            return Naming(stored, stored)
        by_id = {field_id(one): one for one in schema.shown}
        return Naming(pa.schema([by_id[field_id(one)] for one in stored]), stored)

    @property
    def is_plain(self) -> bool:
        """Whether files have the names that people know."""
        return bool(self.shown.equals(self.stored))

    @property
    def reversed(self) -> Naming:
        """From the names in files to those that people know."""
        return Naming(self.stored, self.shown)

    def names(self, shown: Iterable[str]) -> tuple[str, ...]:
        """Return the names in files of some columns; what is no column keeps its name."""
        known = dict(zip(self.shown.names, self.stored.names, strict=True))
        return tuple(known.get(name, name) for name in shown)

    def rules(self, rules: MergeRules) -> MergeRules:
        """Return rules that go by the names in files.

        Raises:
            ChangesRefusedError: a column of the key is not there.
        """
        missing = [name for name in rules.key if name not in self.shown.names]
        if missing:
            raise ChangesRefusedError(f"the table has no column {missing[0]!r} to be a key")
        key, order_by = self.names(rules.key), self.names(rules.order_by)
        op = None if rules.op_column is None else self.names([rules.op_column])[0]
        return replace(rules, key=key, order_by=order_by, op_column=op)

    def rows(self, rows: pa.Table) -> pa.Table:
        """Return rows with the names in files.

        Raises:
            ChangesRefusedError: a column of theirs has the name that another one has in files.
        """
        fields = self.fields(rows.schema)
        columns = [
            column if column.type == field.type else _viewed(column, field.type)
            for column, field in zip(rows.columns, fields, strict=True)
        ]
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))

    def fields(self, schema: pa.Schema) -> list[pa.Field]:
        """Return fields with the names in files; raises as `rows` does."""
        return list(_renamed(list(schema), self.shown, self.stored))


def in_files(arrivals: Arrivals, naming: Naming) -> Arrivals:
    """Return changes that go by the names in a table's files.

    Raises:
        ChangesRefusedError: a column of theirs has the name that another one has in files.
    """
    if naming.is_plain:
        return arrivals
    parts = tuple(ChangedPart(part, partial(_named, naming)) for part in arrivals.parts)
    return replace(arrivals, schema=pa.schema(naming.fields(arrivals.schema)), parts=parts)


def _named(naming: Naming, source: Source) -> Source:
    return replace(source, rows=naming.rows(source.rows))


def _renamed(
    given: Sequence[pa.Field], shown: Iterable[pa.Field], stored: Iterable[pa.Field]
) -> Iterator[pa.Field]:
    """Yield fields with new names: `shown` are known by the names in `stored`, one by one."""
    pairs = {one.name: (one, other) for one, other in zip(shown, stored, strict=True)}
    taken = {other.name: one.name for one, other in pairs.values()}
    for field in given:
        if field.name in pairs:
            one, other = pairs[field.name]
            kind = _renamed_type(field.type, one.type, other.type)
            yield field.with_name(other.name).with_type(kind)
        elif field.name in taken:
            raise ChangesRefusedError(
                f"the changes have a column that the table lacks: {field.name!r} is how its files"
                f" call the column {taken[field.name]!r}"
            )
        else:
            yield field


def _renamed_type(given: Any, shown: Any, stored: Any) -> pa.DataType:
    if types.is_struct(given) and types.is_struct(shown):
        return pa.struct(list(_renamed(given.fields, shown.fields, stored.fields)))
    if types.is_map(given) and types.is_map(shown):
        key = _renamed_type(given.key_type, shown.key_type, stored.key_type)
        return pa.map_(key, _renamed_type(given.item_type, shown.item_type, stored.item_type))
    if _is_list(given) and _is_list(shown):
        inner = _renamed_type(given.value_type, shown.value_type, stored.value_type)
        value = given.value_field.with_type(inner)
        if types.is_fixed_size_list(given):
            return pa.list_(value, given.list_size)
        return pa.large_list(value) if types.is_large_list(given) else pa.list_(value)
    kind: pa.DataType = given
    return kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _viewed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return the same values with other names within the type."""
    return pa.chunked_array([chunk.view(kind) for chunk in column.chunks], kind)
