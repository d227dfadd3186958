"""Change sets: changes of a table in the table's types, with what each does and where it stands.

A change set is one Arrow table: the columns of the table, nulls for those that its source lacks,
and beside them the columns below. It can be cut, joined, spilled and shuffled like any other.

Rows that lack the same columns share a *shape*. So a source that says nothing of a column is told
from one that sets it to null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.schema import TableSchema, field_id
from compactor.errors import ChangesRefusedError
from compactor.merge.conforming import conformed
from compactor.merge.declared import declared
from compactor.merge.keys import Flags, Keys, Rows, columns_of, keys_of
from compactor.merge.kinds import DELETE, UPSERT, Kinds, kinds_of
from compactor.merge.rules import MergeRules, Mode
from compactor.rewrite.cluster.comparable import is_orderable
from compactor.rewrite.cluster.permutation import Key, sort_permutation

# What stands beside the columns of the table. Orders come after them, one column each.
KIND = "_compact_kind"
STREAM = "_compact_stream"
FILE = "_compact_file"
ROW = "_compact_row"
SHAPE = "_compact_shape"
ORDER_BY = "_compact_order_"
_BESIDE = (
    pa.field(KIND, pa.int8(), nullable=False),
    pa.field(STREAM, pa.int64(), nullable=False),
    pa.field(FILE, pa.int32(), nullable=False),
    pa.field(ROW, pa.int64(), nullable=False),
    pa.field(SHAPE, pa.int16(), nullable=False),
)
# What orders changes, less the columns that they are ordered by.
PLACES = frozenset((STREAM, FILE, ROW))
_SHAPES_MAX = 1 << 15
# Iceberg keeps the ids from here on for itself (table spec, reserved field ids), and so do we.
_RESERVED_IDS = (1 << 31) - 1 - 200


@dataclass(frozen=True, slots=True)
class Source:
    """Changes as they come.

    Attributes:
        rows: the changes.
        name: where they come from, for messages.
        stream: their position in the stream; what is later in it is newer.
        file: their place among the files of one position.
        first_row: where in the file they begin.
    """

    rows: pa.Table
    name: str
    stream: int = 0
    file: int = 0
    first_row: int = 0


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Changes of one table.

    Attributes:
        table: see above.
        shapes: the columns that changes of each shape lack.
    """

    table: pa.Table
    shapes: tuple[frozenset[str], ...]

    def __len__(self) -> int:
        """Return the number of changes."""
        return int(self.table.num_rows)

    @property
    def columns(self) -> list[str]:
        """Names of the table's columns."""
        return [name for name in self.table.schema.names if not name.startswith("_compact_")]

    @property
    def rows(self) -> pa.Table:
        """The changes as rows of the table, without what stands beside."""
        return self.table.select(self.columns)

    @property
    def kinds(self) -> Kinds:
        """What each change does."""
        return np.asarray(self.table[KIND].to_numpy())

    @property
    def is_partial(self) -> bool:
        """Whether a change may lack a column."""
        return any(self.shapes)

    @property
    def shape_numbers(self) -> npt.NDArray[np.int16]:
        """The shape of each change, as a number in `shapes`."""
        return np.asarray(self.table[SHAPE].to_numpy())

    def lacks(self, column: str) -> Flags:
        """Tell which changes lack a column."""
        shapes = np.array([column in one for one in self.shapes] or [False])
        found: Flags = shapes[self.shape_numbers]
        return found

    def take(self, rows: Rows) -> ChangeSet:
        """Return some of the changes."""
        return replace(self, table=self.table.take(pa.array(rows)))

    def with_kinds(self, kinds: Kinds) -> ChangeSet:
        """Return the changes doing something else."""
        place = self.table.schema.get_field_index(KIND)
        field = self.table.schema.field(place)
        return replace(self, table=self.table.set_column(place, field, pa.array(kinds)))

    def keys(self, names: Sequence[str]) -> Keys:
        """Return the keys of the changes."""
        return keys_of(self.table, names)


def changeable(schema: TableSchema) -> pa.Schema:
    """Return the columns that changes may have: all but those that formats fill themselves."""
    numbered = ((field_id(one) or 0, one) for one in declared(schema))
    return pa.schema(
        [one for number, one in numbered if number < _RESERVED_IDS and number not in schema.own]
    )


def change_set(source: Source, schema: pa.Schema, rules: MergeRules) -> ChangeSet:
    """Read changes by the rules of a merge.

    Args:
        source: the changes.
        schema: the table's columns, with field ids (`changeable`).
        rules: how they are read.

    Raises:
        ChangesRefusedError: a key or order column is missing, a column is unknown to the table, a
            value does not fit it, or is null where none may be.
    """
    rules.check(schema)
    _check_columns(source, schema, rules)
    rows = conformed(source.rows, schema, name=source.name)
    kinds = np.full(rows.num_rows, UPSERT, np.int8)
    if rules.op_column is not None:
        kinds = kinds_of(source.rows[rules.op_column], name=source.name)
    if rules.mode is Mode.APPEND and (kinds == DELETE).any():
        raise ChangesRefusedError(
            f"{source.name}: rows are to be appended, but some are deletes",
            hint="Give deletes apart, keyed on columns.",
        )
    _check_nulls(rows.filter(pa.array(kinds == UPSERT)), schema, source.name)
    missing = frozenset(schema.names) - set(rows.schema.names)
    for place, field in enumerate(schema):
        if field.name in missing:
            rows = rows.add_column(
                place, field.with_nullable(True), pa.nulls(rows.num_rows, field.type)
            )
    beside = placed(source, kinds=kinds, order_by=rules.order_by, schema=schema)
    return ChangeSet(beside_each_other(rows, beside), (missing,))


def placed(source: Source, *, kinds: Kinds, order_by: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Return what stands beside the rows of a source.

    Raises:
        ChangesRefusedError: they cannot be ordered by these columns.
    """
    count = len(kinds)
    columns = [
        kinds,
        np.full(count, source.stream, np.int64),
        np.full(count, source.file, np.int32),
        np.arange(source.first_row, source.first_row + count),
        np.zeros(count, np.int16),
    ]
    table = pa.table([pa.array(one) for one in columns], schema=pa.schema(_BESIDE))
    given = source.rows.select([*dict.fromkeys(order_by)])
    known = conformed(given, schema, name=source.name)
    for place, name in enumerate(order_by):
        values = known[name] if name in known.schema.names else given[name]
        if not is_orderable(values.type):
            raise ChangesRefusedError(
                f"{source.name}: changes cannot be ordered by {name!r}, which is a {values.type}"
            )
        table = table.append_column(f"{ORDER_BY}{place}", values)
    return table


def beside_each_other(left: pa.Table, right: pa.Table) -> pa.Table:
    """Return the columns of two tables with the same number of rows."""
    for place, field in enumerate(right.schema):
        left = left.append_column(field, right.column(place))
    return left


def _check_columns(source: Source, schema: pa.Schema, rules: MergeRules) -> None:
    names = source.rows.schema.names
    if len(set(names)) != len(names):
        raise ChangesRefusedError(f"{source.name}: two columns have the same name")
    wanted = [*rules.key, *rules.order_by, *([rules.op_column] if rules.op_column else [])]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ChangesRefusedError(f"{source.name} has no column {_listed(missing)}")
    unknown = new_columns(source.rows.schema, schema, rules)
    if unknown:
        raise ChangesRefusedError(
            f"{source.name} has columns that the table lacks: {_listed(unknown)}",
            hint="They can be added to the table with --evolve.",
        )
    reserved = [name for name in schema.names if name.startswith("_compact_")]
    if reserved:
        raise ChangesRefusedError(f"changes need the names of the table's columns {reserved}")


def new_columns(changes: pa.Schema, schema: pa.Schema, rules: MergeRules) -> list[str]:
    """Return the columns of changes that belong into the table and are not there."""
    known = {*schema.names, *rules.order_by, rules.op_column}
    return [name for name in changes.names if name not in known]


def _check_nulls(rows: pa.Table, schema: pa.Schema, name: str) -> None:
    for field in rows.schema:
        if not schema.field(field.name).nullable and rows[field.name].null_count:
            raise ChangesRefusedError(
                f"{name}: the table's column {field.name!r} is required, and null in the changes"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def joined(sets: Sequence[ChangeSet]) -> ChangeSet:
    """Return the changes of several sets together.

    Raises:
        ChangesRefusedError: they are ordered by values of different types.
    """
    if len(sets) == 1:
        return sets[0]
    shapes = tuple(dict.fromkeys(shape for one in sets for shape in one.shapes))
    if len(shapes) > _SHAPES_MAX:
        raise ChangesRefusedError("the changes lack too many different sets of columns")
    return ChangeSet(together([_with_shapes(one, shapes) for one in sets]), shapes)


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of several tables; columns that one lacks are null there.

    Raises:
        ChangesRefusedError: the order columns have different types.
    """
    try:
        return pa.concat_tables(tables, promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ChangesRefusedError(f"the changes are ordered by different types: {error}") from error


def _with_shapes(changes: ChangeSet, shapes: tuple[frozenset[str], ...]) -> pa.Table:
    """Return the table of a change set, its shapes numbered as in `shapes`."""
    numbers = np.array([shapes.index(one) for one in changes.shapes], np.int16)
    place = changes.table.schema.get_field_index(SHAPE)
    field = changes.table.schema.field(place)
    renumbered = numbers[changes.table[SHAPE].to_numpy()]
    return changes.table.set_column(place, field, pa.array(renumbered))


def in_order(table: pa.Table, *, is_event_time: bool) -> Rows:
    """Return the rows of changes from the oldest to the newest.

    By stream position, then by the order columns, then by file and row; the order columns come
    first with event time. Nulls are older than all values, NaN is newer.
    """
    names = table.schema.names
    if names[-1] == SHAPE and _is_in_order(table):
        return np.arange(table.num_rows)
    orders = [name for name in names if name.startswith(ORDER_BY)]
    first = [*orders, STREAM] if is_event_time else [STREAM, *orders]
    columns = columns_of(table, (*first, FILE, ROW))
    return sort_permutation([Key(column) for column in columns])


def _is_in_order(table: pa.Table) -> bool:
    """Tell whether changes stand where their places say."""
    is_later = np.zeros(max(0, table.num_rows - 1), np.bool_)
    for name in (ROW, FILE, STREAM):
        values = np.asarray(table[name].to_numpy())
        is_later = (values[1:] > values[:-1]) | ((values[1:] == values[:-1]) & is_later)
    return bool(is_later.all())
