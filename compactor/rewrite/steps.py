"""The ways in which a column of a data file becomes a column of the table: a tree of small values.

Each step takes an array of the file and returns one of the table; children of nested columns have
steps of their own. What is not changed keeps its buffers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CorruptTableError
from compactor.rewrite.conversion import convert
from compactor.rewrite.nested import list_parts, null_array, plain_list


class Step(Protocol):
    """How one column of the table comes out of a batch of the file."""

    def apply(self, array: pa.Array) -> pa.Array:
        """Return the column, given the file's column."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The stored form is the table's."""

    def apply(self, array: pa.Array) -> pa.Array:
        """Return the array itself."""
        return array


@dataclass(frozen=True, slots=True)
class Convert:
    """A leaf in another spelling or a narrower type."""

    file: str
    column: str
    target: pa.DataType

    def apply(self, array: pa.Array) -> pa.Array:
        """Return the array in the table's type, each value checked."""
        try:
            return convert(array, self.target)
        except pa.ArrowInvalid as error:
            raise CorruptTableError(
                f"{self.file}: column {self.column!r}: a value of type {array.type} has no equal"
                f" in the table's type {self.target}: {error}"
            ) from error


@dataclass(frozen=True, slots=True)
class Fill:
    """A column that the file lacks and that has one value in all of its rows."""

    value: pa.Scalar
    step: Step

    def apply(self, array: pa.Array) -> pa.Array:
        """Return the value as often as the array is long."""
        return self.step.apply(pa.repeat(self.value, len(array)))


@dataclass(frozen=True, slots=True)
class Count:
    """A column that follows from where a row stands in the file: `start + step * position`."""

    file: str
    start: int
    step: int

    def apply(self, array: pa.Array) -> pa.Array:
        """Return the values at positions."""
        try:
            return pc.add_checked(pc.multiply_checked(array, self.step), self.start)
        except pa.ArrowInvalid as error:
            raise CorruptTableError(
                f"{self.file}: values that count from {self.start} exceed 64 bits"
            ) from error


@dataclass(frozen=True, slots=True)
class Nulls:
    """A column that the file lacks."""

    target: pa.DataType

    def apply(self, array: pa.Array) -> pa.Array:
        """Return nulls, as many as the array is long."""
        return null_array(self.target, len(array))


@dataclass(frozen=True, slots=True)
class OfDictionary:
    """A leaf that comes as a dictionary and stays one: its values are read, not its rows."""

    step: Step

    def apply(self, array: pa.DictionaryArray) -> pa.DictionaryArray:
        """Return the array with the values of the table."""
        return pa.DictionaryArray.from_arrays(array.indices, self.step.apply(array.dictionary))


@dataclass(frozen=True, slots=True)
class Require:
    """A column that the table requires and the file declares optional."""

    file: str
    column: str
    step: Step

    def apply(self, array: pa.Array) -> pa.Array:
        """Return the array, once it is known to hold no null."""
        if array.null_count:
            raise CorruptTableError(f"{self.file}: the required column {self.column!r} holds nulls")
        return self.step.apply(array)


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct whose fields are rebuilt; `sources` are the positions of the file's fields."""

    target: pa.StructType
    sources: tuple[int | None, ...]
    steps: tuple[Step, ...]

    def apply(self, array: pa.Array) -> pa.Array:
        """Return the structs with the fields of the table."""
        if array.null_count:
            # What lies under a null struct is nobody's value: no rule applies to it.
            return _spread(self.apply(array.drop_null()), pc.is_valid(array))
        children = [
            step.apply(array if source is None else array.field(source))
            for source, step in zip(self.sources, self.steps, strict=True)
        ]
        return pa.StructArray.from_arrays(children, type=self.target)


@dataclass(frozen=True, slots=True)
class List:
    """A list of any spelling whose elements are rebuilt."""

    target: pa.ListType
    element: Step

    def apply(self, array: pa.Array) -> pa.Array:
        """Return the lists with the elements of the table."""
        array = plain_list(array)
        offsets, values, mask = list_parts(array, array.values)
        return pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), self.element.apply(values), type=self.target, mask=mask
        )


@dataclass(frozen=True, slots=True)
class Map:
    """A map whose keys and values are rebuilt."""

    target: pa.MapType
    key: Step
    value: Step

    def apply(self, array: pa.Array) -> pa.Array:
        """Return the maps with the keys and values of the table."""
        offsets, keys, mask = list_parts(array, array.keys)
        _, items, _ = list_parts(array, array.items)
        return pa.MapArray.from_arrays(
            pa.array(offsets, pa.int32()),
            self.key.apply(keys),
            self.value.apply(items),
            type=self.target,
            mask=mask,
        )


def _spread(values: pa.StructArray, is_valid: pa.BooleanArray) -> pa.Array:
    """Return the values at the valid places, in their order, and nulls at the others."""
    mask = is_valid.to_numpy(zero_copy_only=False)
    if not len(values):
        return null_array(values.type, len(mask))
    # Below a null stands what stands below its neighbour: a required field must hold something.
    spread = values.take(pa.array(np.maximum(np.cumsum(mask) - 1, 0)))
    children = [spread.field(index) for index in range(values.type.num_fields)]
    return pa.StructArray.from_arrays(children, type=values.type, mask=pa.array(~mask))
