"""Columns that changes have and a table lacks, or has in a narrower type: what the table becomes.

Only what breaks no reader is done: new columns are nullable, and a wider type holds every value of
the narrower. Columns are committed before the rows that have them: a table with a column of nulls
is as good as before, whatever happens next.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from pyarrow import types

from catalog.evolution import Evolution, EvolvableTable
from catalog.table import Table
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import Source, new_columns
from compactor.merge.rules import MergeRules
from compactor.rewrite.conversion import stored_type

_INTEGERS = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.int32(): pa.int32(),
    pa.int64(): pa.int64(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
}
_LEAVES = _INTEGERS | {
    pa.bool_(): pa.bool_(),
    pa.float16(): pa.float32(),
    pa.float32(): pa.float32(),
    pa.float64(): pa.float64(),
    pa.date32(): pa.date32(),
    pa.date64(): pa.date32(),
    pa.string(): pa.string(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.binary(): pa.binary(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}
_DIGITS_MAX = 38


def evolution_of(changes: pa.Schema, schema: pa.Schema, rules: MergeRules) -> Evolution:
    """Return what must become of a table's columns for changes to fit.

    Args:
        changes: the columns of the changes.
        schema: those of the table, by the names that people know.
        rules: which columns of the changes are none of the table's.

    Raises:
        ChangesRefusedError: a new column has no name or type that a table could have.
    """
    added = [
        pa.field(name, _plain(changes.field(name))) for name in new_columns(changes, schema, rules)
    ]
    by_lower = {name.lower(): name for name in schema.names}
    for field in added:
        if (other := by_lower.setdefault(field.name.lower(), field.name)) != field.name:
            raise ChangesRefusedError(
                f"the changes have a column {field.name!r} besides {other!r}: there are readers"
                " that could not tell them apart"
            )
        if field.name.startswith("_compact_"):
            raise ChangesRefusedError(f"no column can be added under the name {field.name!r}")
    common = [field for field in schema if field.name in changes.names]
    wide = {field.name: _wider(field.type, changes.field(field.name).type) for field in common}
    widened = [pa.field(name, kind) for name, kind in wide.items() if kind is not None]
    return Evolution(pa.schema(added), pa.schema(widened))


def evolve(table: Table, evolution: Evolution) -> None:
    """Commit the columns of an evolution.

    Raises:
        UnsupportedTableError: the table cannot have such a column.
        ChangesRefusedError: its columns cannot be changed.
        CommitConflictError: other writers kept winning.
    """
    if evolution.is_empty:
        return
    if not isinstance(table, EvolvableTable):
        raise ChangesRefusedError(f"columns cannot be added to {table.name}")
    table.evolve(evolution)


def without_new(evolution: Evolution, source: Source) -> Source:
    """Return changes without the columns that a table would be given: for a look ahead."""
    kept = [name for name in source.rows.schema.names if name not in evolution.added.names]
    return replace(source, rows=source.rows.select(kept))


def _plain(field: pa.Field) -> pa.DataType:
    """Return the type of a new column: the one that formats have for the values of a type."""
    try:
        return _plain_type(field.type)
    except ValueError as error:
        raise ChangesRefusedError(
            f"the new column {field.name!r} cannot be added: {error}",
            hint="Give it a type that tables have, or leave it out.",
        ) from error


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if types.is_struct(kind):
        return pa.struct([pa.field(one.name, _plain_type(one.type)) for one in kind.fields])
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    return kind if kind == pa.uuid() else _plain_leaf(stored_type(kind))


def _plain_leaf(kind: pa.DataType) -> pa.DataType:
    if kind in _LEAVES:
        return _LEAVES[kind]
    if types.is_decimal(kind) and 0 <= kind.scale <= kind.precision <= _DIGITS_MAX:
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if types.is_time(kind):
        return pa.time64("us")
    if types.is_fixed_size_binary(kind):
        return kind
    raise ValueError("it has nulls only, and no type" if types.is_null(kind) else f"it is {kind}")


def _wider(known: pa.DataType, given: pa.DataType) -> pa.DataType | None:
    """Return the wider of two types if it is the given one and formats widen to it."""
    given = stored_type(given)
    if types.is_signed_integer(known) and types.is_integer(given):
        wide = _INTEGERS.get(given)
        return wide if wide is not None and wide.bit_width > known.bit_width else None
    if (known, given) == (pa.float32(), pa.float64()):
        return given
    if types.is_decimal(known) and types.is_decimal(given) and known.scale == given.scale:
        is_wider = known.precision < given.precision <= _DIGITS_MAX
        return pa.decimal128(given.precision, given.scale) if is_wider else None
    return None
