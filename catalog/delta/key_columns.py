"""Bounds of columns by the statistics of a log, a column of all files at a time.

Statistics are JSON texts, or columns of their own in checkpoints. Where a writer may have cut a
value the bound is moved outwards; where it may have lost digits it is not known.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from pyarrow import types

from catalog.delta.file_columns import FileColumns, child
from catalog.routing import FileBounds

_ENDS = ("minValues", "maxValues")
# There are writers that cut times to the millisecond, towards zero, in either bound.
_CUT_MICROSECONDS = 1000
# What writers append to a text that they cut off: it must stay above all that it stands for, which
# it is not where characters follow that sort after it.
_TIE_BREAKER = "\ufffd"
_ABOVE_ALL_TEXT = b"\xff"
# There are writers that pass decimals through a double, which keeps so many digits.
_EXACT_IN_DOUBLE = 10**15


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column whose bounds are read.

    Attributes:
        name: its physical name.
        kind: its type in the table.
    """

    name: str
    kind: pa.DataType

    @property
    def is_bounded(self) -> bool:
        """Whether statistics have bounds of its type that can be understood."""
        kind = self.kind
        return not (types.is_boolean(kind) or types.is_binary(kind) or types.is_nested(kind))

    @property
    def stated(self) -> pa.DataType:
        """How JSON has it."""
        return pa.string() if types.is_string(self.kind) or types.is_date(self.kind) else self.kind

    @property
    def plain(self) -> pa.DataType:
        """What its bounds are: texts need not be valid text any more."""
        is_text = types.is_string(self.kind) or types.is_binary(self.kind)
        return pa.binary() if is_text else self.kind


@dataclass(frozen=True, slots=True)
class KeyColumns(FileColumns):
    """Reads file actions of one table with the bounds of some columns.

    Attributes:
        keys: these columns.
    """

    keys: tuple[KeyColumn, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """That of the files, and per column its bounds and its nulls."""
        fields = list(super(KeyColumns, self).schema)
        for number, key in enumerate(self.keys):
            fields += [pa.field(f"{end} {number}", key.plain) for end in _ENDS]
            fields.append(pa.field(f"nulls {number}", pa.int64()))
        return pa.schema(fields)

    def checkpoint_columns(self, adds: pa.StructType) -> list[str]:
        """Name the columns of a checkpoint that are read besides."""
        found = ["add.stats"] if adds.get_field_index("stats") >= 0 else []
        place = adds.get_field_index("stats_parsed")
        parsed = adds.field(place).type if place >= 0 else pa.null()
        for name in (*_ENDS, "nullCount"):
            place = parsed.get_field_index(name) if types.is_struct(parsed) else -1
            inner = parsed.field(place).type if place >= 0 else pa.null()
            names = [one.name for one in inner] if types.is_struct(inner) else []
            keys = (key.name for key in self.keys if key.name in names)
            found += [f"add.stats_parsed.{name}.{key}" for key in keys]
        return [*super(KeyColumns, self).checkpoint_columns(adds), *found]

    def files(self, adds: pa.StructArray) -> pa.Table:
        """Return the files of some `add` actions with the bounds of columns."""
        plain = FileColumns(self.paths, self.partitions, self.reads_cubes).files(adds)
        texts = child(adds, "stats", pa.string())
        parsed = child(adds, "stats_parsed")
        columns = list(plain.columns)
        for key in self.keys:
            stated = _stated(texts, key)
            for end in _ENDS:
                found = _outwards(_entry(stated, end, key), key, is_lower=end == _ENDS[0])
                other = _outwards(_entry(parsed, end, key), key, is_lower=end == _ENDS[0])
                columns.append(pc.coalesce(found, other))
            nulls = (child(child(one, "nullCount"), key.name) for one in (stated, parsed))
            columns.append(pc.coalesce(*(_count(one) for one in nulls)))
        return pa.table(columns, schema=self.schema)


def file_bounds(table: pa.Table, number: int) -> FileBounds:
    """Return the bounds of one column out of a table with the columns of `KeyColumns.schema`."""
    lower, upper = (table[f"{end} {number}"].combine_chunks() for end in _ENDS)
    return FileBounds(lower, upper, table[f"nulls {number}"].combine_chunks())


def _stated(texts: pa.StringArray, key: KeyColumn) -> pa.StructArray:
    """Parse the statistics of one column; nulls where they are no JSON or mean something else."""
    ends = pa.struct([pa.field(key.name, key.stated)])
    schema = pa.schema(
        [
            *(pa.field(end, ends) for end in _ENDS if key.is_bounded),
            pa.field("nullCount", pa.struct([pa.field(key.name, pa.int64())])),
        ]
    )
    nothing = pa.nulls(len(texts), pa.struct(list(schema)))
    if texts.null_count == len(texts):
        return nothing
    lines = pc.replace_substring_regex(pc.fill_null(texts, "{}"), r"[\r\n]", " ")
    block = pc.binary_join(pa.array([lines.to_pylist()]), "\n")[0].as_buffer()
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pj.ReadOptions(use_threads=False, block_size=block.size + 1)
    try:
        found = pj.read_json(pa.BufferReader(block), read_options=read, parse_options=parse)
    except (pa.ArrowException, ValueError):
        return nothing
    if len(found) != len(texts):
        return nothing
    return found.select(schema.names).combine_chunks().to_struct_array().combine_chunks()


def _entry(stated: pa.Array, end: str, key: KeyColumn) -> pa.Array:
    """Return one bound in the column's type; nulls where it is of another."""
    found = child(child(stated, end), key.name)
    if not key.is_bounded or types.is_null(found.type):
        return pa.nulls(len(stated), key.kind)
    try:
        return found.cast(key.kind)
    except pa.ArrowException:
        return pa.nulls(len(stated), key.kind)


def _count(found: pa.Array) -> pa.Array:
    try:
        return found.cast(pa.int64())
    except pa.ArrowException:
        return pa.nulls(len(found), pa.int64())


def _outwards(values: pa.Array, key: KeyColumn, *, is_lower: bool) -> pa.Array:
    """Move bounds outwards by what writers may have cut from them."""
    kind = key.kind
    if types.is_string(kind):
        raw = values.cast(pa.binary())
        if is_lower:
            return raw
        stem = pc.utf8_rtrim(values, _TIE_BREAKER).cast(pa.binary())
        above = pc.binary_join_element_wise(stem, _ABOVE_ALL_TEXT, b"")
        return pc.if_else(pc.ends_with(values, _TIE_BREAKER), above, raw)
    if types.is_timestamp(kind):
        return _moved(values, -_CUT_MICROSECONDS if is_lower else _CUT_MICROSECONDS)
    if types.is_decimal(kind):
        digits = pc.abs(pc.multiply(values.cast(pa.float64()), float(10**kind.scale)))
        return pc.if_else(pc.less(digits, _EXACT_IN_DOUBLE), values, pa.scalar(None, kind))
    if types.is_floating(kind):
        return pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
    return values.cast(key.plain)


def _moved(values: pa.Array, microseconds: int) -> pa.Array:
    try:
        return pc.add_checked(values.cast(pa.int64()), microseconds).cast(values.type)
    except pa.ArrowException:  # the last times that there are
        return pa.nulls(len(values), values.type)
