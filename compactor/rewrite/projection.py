"""Project the columns of a data file onto the table's schema, by field id at every level.

A projection is planned once per file from the two schemas and then applied to each batch.
Columns whose stored form is the table's pass through untouched; renamed, reordered, added,
dropped and widened ones are rebuilt around their buffers.

No value is ever guessed or rounded: what the rules of `conversion` do not cover is refused by
file, column and types.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.model import Filling
from catalog.schema import TableSchema
from catalog.schema import field_id as _id_of
from compactor.rewrite.conversion import is_bytes, is_readable_as
from compactor.rewrite.integers import as_integer, with_integers
from compactor.rewrite.nested import is_list
from compactor.rewrite.repetition import with_dictionaries
from compactor.rewrite.steps import (
    Convert,
    Count,
    Fill,
    List,
    Map,
    Nulls,
    OfDictionary,
    Pass,
    Require,
    Step,
    Struct,
)

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileColumns:
    """What a data file holds, as far as the projection has to know.

    Attributes:
        name: the file, for messages.
        arrow: its columns as Arrow reads them.
        int96_columns: dotted names of columns in the old 96-bit timestamp type.
    """

    name: str
    arrow: pa.Schema
    int96_columns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of the table comes out of a batch.

    Attributes:
        source: the file's column; None when the file has none.
        step: makes the column of the file's, or of the rows' positions when there is none.
        filling: makes what takes the place of nulls, of the rows' positions; None for nothing.
    """

    source: str | None
    step: Step
    filling: Step | None = None

    @property
    def needs_positions(self) -> bool:
        """Whether it matters where in the file a row stands."""
        return isinstance(self.step, Count) or isinstance(self.filling, Count)

    @property
    def is_by_value(self) -> bool:
        """Whether nothing but the file's own value matters."""
        return isinstance(self.step, Pass | Convert) and self.filling is None

    @property
    def is_as_stored(self) -> bool:
        """Whether the file's own value is the table's as it is."""
        return isinstance(self.step, Pass) and self.filling is None

    def apply(self, batch: pa.RecordBatch, positions: pa.Array) -> pa.Array:
        """Return the column."""
        if self.source is None:
            return self.step.apply(positions)
        found = self.step.apply(batch.column(self.source))
        if self.filling is None or not found.null_count:
            return found
        return pc.coalesce(found, self.filling.apply(positions))


@dataclass(frozen=True, slots=True)
class Projection:
    """The plan for one file.

    Attributes:
        target: schema of the result.
        outcome: per column of the table, where it comes from.
    """

    target: pa.Schema
    outcome: tuple[Column, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the file's top-level columns that are read."""
        return tuple(one.source for one in self.outcome if one.source is not None)

    @property
    def needs_positions(self) -> bool:
        """Whether it matters where in the file a row stands."""
        return any(one.needs_positions for one in self.outcome)

    @property
    def texts(self) -> frozenset[str]:
        """The file's text and binary columns of which each value is read for itself."""
        return frozenset(
            one.source
            for field, one in zip(self.target, self.outcome, strict=True)
            if one.source is not None and one.is_by_value and is_bytes(field.type)
        )

    def alike(self, names: Collection[str]) -> frozenset[str]:
        """Return the file's columns that are the same in the table, where they have these names."""
        return frozenset(
            one.source
            for field, one in zip(self.target, self.outcome, strict=True)
            if one.source is not None and one.is_as_stored and field.name in names
        )

    def with_integers(self, names: Collection[str]) -> Projection:
        """Return the projection whose result has integers for these decimals, read so or not."""
        return replace(self, target=with_integers(self.target, names))

    def keeping(self, dictionaries: frozenset[str]) -> Projection:
        """Return the projection for batches in which these of `texts` are dictionaries."""
        if not dictionaries:
            return self
        kept = [one.source in dictionaries for one in self.outcome]
        outcome = tuple(
            replace(one, step=OfDictionary(one.step)) if is_kept else one
            for one, is_kept in zip(self.outcome, kept, strict=True)
        )
        names = [field.name for field, is_kept in zip(self.target, kept, strict=True) if is_kept]
        return Projection(with_dictionaries(self.target, names), outcome)

    def apply(self, batch: pa.RecordBatch, positions: pa.Array | None = None) -> pa.RecordBatch:
        """Return a batch of the file, `columns` at least, as a batch of the table.

        Args:
            batch: the rows.
            positions: where each of them stands in the file, from 0 on; needed if
                `needs_positions`.

        Raises:
            CorruptTableError: a value does not fit the table's type, or is null where none may be.
        """
        if positions is None:
            if self.needs_positions:
                raise ValueError("columns that count rows need the positions of the rows")
            positions = pa.nulls(batch.num_rows)
        arrays = [
            as_integer(one.apply(batch, positions), field.type)
            for field, one in zip(self.target, self.outcome, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.target)


def plan_projection(
    file: FileColumns, table: TableSchema, fillings: Mapping[int, Filling]
) -> Projection:
    """Plan how the columns of a file become those of the table.

    Args:
        file: the file's columns.
        table: what readers of the table see.
        fillings: by field id, what columns hold that the file lacks or has nulls in.

    Raises:
        UnsupportedTableError: a column is stored in a form that cannot be read as the table's
            type, or the file has no field ids and the table no name mapping.
        CorruptTableError: field ids are repeated, or a required column has no value.
    """
    if len(set(file.arrow.names)) != len(file.arrow.names):
        raise CorruptTableError(f"{file.name}: two columns have the same name")
    return Projection(table.arrow, tuple(_Planner(file, table, fillings).columns()))


class _Planner:
    """Matches two schemas; `path` is made of the file's names, as the name mapping has them."""

    def __init__(
        self, file: FileColumns, table: TableSchema, fillings: Mapping[int, Filling]
    ) -> None:
        self._file = file
        self._table = table
        self._fillings = fillings
        self._mapping = dict(table.name_mapping)
        goes_by_ids = table.has_field_ids and not table.ignores_field_ids
        self._goes_by_names = not goes_by_ids
        self._has_ids = goes_by_ids and any(_has_id(field) for field in file.arrow)
        if not self._has_ids and not self._mapping:
            raise UnsupportedTableError(
                f"{file.name}: its columns carry no field ids and the table has no name mapping",
                hint="Set the table property schema.name-mapping.default.",
            )

    def columns(self) -> Iterator[Column]:
        """Yield the columns of the table."""
        targets, sources = list(self._table.arrow), list(self._file.arrow)
        found, steps = self.fields(targets, sources, ())
        for target, position, step in zip(targets, found, steps, strict=True):
            if position is None:
                yield Column(None, step)
                continue
            source = sources[position]
            filling = self._fillings.get(field_id(target))
            if filling is None or not filling.fills_nulls or not filling.start.is_valid:
                yield Column(source.name, step)
            else:
                # No null is left, so that a required column need not be checked for any.
                value = self._value(target.type, source.type, (source.name,))
                yield Column(source.name, value, self._missing(target, ()))

    def fields(
        self, targets: list[pa.Field], sources: list[pa.Field], path: Path
    ) -> tuple[list[int | None], list[Step]]:
        """Return, per target, the position of its source (None: missing) and its step."""
        positions = self._positions(sources, path)
        ids = [field_id(target) for target in targets]
        if self._goes_by_names:
            self._refuse_other_spellings(
                [t for t in targets if field_id(t) not in positions], sources
            )
        found = [None if one in self._table.unstored else positions.get(one) for one in ids]
        steps = [
            self._missing(target, path)
            if position is None
            else self.step(target, sources[position], (*path, sources[position].name))
            for target, position in zip(targets, found, strict=True)
        ]
        return found, steps

    def _refuse_other_spellings(self, missing: list[pa.Field], sources: list[pa.Field]) -> None:
        """Refuse a column of which only the case of letters is not the table's.

        To some readers it is the table's column, and to others the file has none.
        """
        stored = {source.name.lower(): source.name for source in sources} if missing else {}
        for target in missing:
            other = stored.get(target.name.lower(), target.name)
            if other != target.name and field_id(target) not in self._table.unstored:
                raise UnsupportedTableError(
                    f"{self._file.name}: the table has the column {target.name!r}, the file"
                    f" {other!r}: readers do not agree whether these are the same"
                )

    def step(self, target: pa.Field, source: pa.Field, path: Path) -> Step:
        """Return how one field is read."""
        step = self._value(target.type, source.type, path)
        if source.nullable and not target.nullable:
            return Require(self._file.name, ".".join(path), step)
        return step

    def _value(self, target: pa.DataType, source: pa.DataType, path: Path) -> Step:
        if types.is_struct(target) and types.is_struct(source):
            return self._struct(target, source, path)
        if types.is_map(target) and types.is_map(source):
            return self._map(target, source, path)
        if is_list(target) and is_list(source):
            return self._list(target, source, path)
        if types.is_nested(target) or not is_readable_as(
            source, target, is_int96=".".join(path) in self._file.int96_columns
        ):
            self._refuse(target, source, path)
        if source == target:
            return Pass()
        return Convert(self._file.name, ".".join(path), target)

    def _struct(self, target: pa.StructType, source: pa.StructType, path: Path) -> Step:
        sources, steps = self.fields(list(target.fields), list(source.fields), path)
        in_place = sources == list(range(len(source.fields)))
        if source == target and in_place and all(isinstance(step, Pass) for step in steps):
            return Pass()
        return Struct(target, tuple(sources), tuple(steps))

    def _list(self, target: pa.ListType, source: pa.DataType, path: Path) -> Step:
        element = self.step(target.value_field, source.value_field, (*path, "element"))
        if source == target and isinstance(element, Pass):
            return Pass()
        return List(target, element)

    def _map(self, target: pa.MapType, source: pa.MapType, path: Path) -> Step:
        key = self.step(target.key_field, source.key_field, (*path, "key"))
        value = self.step(target.item_field, source.item_field, (*path, "value"))
        if source == target and isinstance(key, Pass) and isinstance(value, Pass):
            return Pass()
        return Map(target, key, value)

    def _missing(self, target: pa.Field, path: Path) -> Step:
        path = (*path, target.name)
        filling = self._fillings.get(field_id(target))
        if filling is not None and filling.start.is_valid:
            return self._filled(filling, target, path)
        if not target.nullable:
            raise CorruptTableError(
                f"{self._file.name}: the required column {'.'.join(path)!r} is not in the file"
            )
        return Nulls(target.type)

    def _filled(self, filling: Filling, target: pa.Field, path: Path) -> Step:
        start = filling.start
        if not filling.step:
            return Fill(start, self._value(target.type, start.type, path))
        if len(path) > 1 or target.type != pa.int64():
            raise UnsupportedTableError(
                f"the column {'.'.join(path)!r} counts rows and is no top-level 64-bit integer"
            )
        return Count(self._file.name, start.as_py(), filling.step)

    def _positions(self, sources: list[pa.Field], path: Path) -> dict[int, int]:
        positions: dict[int, int] = {}
        for position, source in enumerate(sources):
            found = self._source_id(source, path)
            if found is None:
                continue
            if found in positions:
                raise CorruptTableError(
                    f"{self._file.name}: the field id {found} is used twice, by"
                    f" {sources[positions[found]].name!r} and {source.name!r}"
                )
            positions[found] = position
        return positions

    def _source_id(self, source: pa.Field, path: Path) -> int | None:
        found = _id_of(source) if self._has_ids else None
        if found is not None:
            return found
        by_name = self._mapping.get((*path, source.name))
        return by_name if not self._has_ids or by_name in self._table.named else None

    def _refuse(self, target: pa.DataType, source: pa.DataType, path: Path) -> NoReturn:
        raise UnsupportedTableError(
            f"{self._file.name}: column {'.'.join(path)!r} is stored as {source}, which cannot"
            f" be read as the table's type {target} without changing values"
        )


def field_id(field: pa.Field) -> int:
    """Return the id of a table's field.

    Raises:
        CorruptTableError: the table's schema lacks it.
    """
    found = _id_of(field)
    if found is None:
        raise CorruptTableError(f"the table's column {field.name!r} has no field id")
    return found


def _has_id(field: pa.Field) -> bool:
    return _id_of(field) is not None or any(_has_id(child) for child in _children(field.type))


def _children(kind: pa.DataType) -> list[pa.Field]:
    if types.is_map(kind):
        return [kind.key_field, kind.item_field]
    return [kind.field(index) for index in range(kind.num_fields)]
