"""Columns whose values hardly repeat: a dictionary would be built, grow too large, and be left.

What was encoded by then stays beside a dictionary that nearly equals the values: larger than the
plain values, and slower to write. The table by which values are found again takes three times
their size, and grows by four: 25 MiB for 131,073 values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from compactor.rewrite.nested import is_list, list_parts

# Enough to tell columns with few values from those with nearly as many values as rows.
SAMPLE_ROWS = 8192
DISTINCT_SHARE_MAX = 0.75
# Values that stand together, and nowhere else, are stored once by every codec: with up to eight of
# each the plain ones take a tenth to all of what a dictionary takes, for a third of the work.
_DISTINCT_SHARE_TOGETHER_MAX = 0.1
# Rows are taken in runs, so that values that stand together are seen to.
_RUNS = 8
_KINDS = (types.is_floating, types.is_integer, types.is_decimal, types.is_timestamp, types.is_time)


def unrepeating_paths(
    batches: Sequence[pa.RecordBatch], dictionary_bytes: int, *, is_compressed: bool
) -> frozenset[str]:
    """Return the paths of number and time columns, also nested ones, that get no dictionary.

    Args:
        batches: the rows of the first row group of a file.
        dictionary_bytes: length at which a dictionary is left.
        is_compressed: whether pages are.
    """
    if not batches:
        # Columns that are copied in another order: nothing is encoded.
        return frozenset()
    rows = sum(batch.num_rows for batch in batches)
    some, others = (dict(_leaves(half)) for half in _halves(batches, rows))
    samples = {path: _Sample.of(some[path], others[path], rows) for path in some}
    return frozenset(
        path
        for path, sample in samples.items()
        if sample.is_new
        or (is_compressed and sample.stands_together)
        or sample.distinct_bytes > dictionary_bytes
    )


@dataclass(frozen=True, slots=True)
class _Sample:
    """The values of a sample in two halves.

    Attributes:
        rows: how many rows it stands for.
        looked_at: how many values it has.
        distinct: how many values the halves and both have, each counted once.
        value_bytes: what one takes.
    """

    rows: int
    looked_at: int
    distinct: tuple[int, int, int]
    value_bytes: float

    @classmethod
    def of(cls, some: pa.Array, others: pa.Array, rows: int) -> _Sample:
        both = pa.chunked_array([some, others])
        left, right, union = (pc.count_distinct(one).as_py() for one in (some, others, both))
        return cls(rows, len(both), (left, right, union), some.type.bit_width / 8)

    @property
    def is_new(self) -> bool:
        """Whether hardly a value is there twice."""
        least = max(min(self.rows, SAMPLE_ROWS), self.looked_at)
        return self.distinct[2] > DISTINCT_SHARE_MAX * least

    @property
    def stands_together(self) -> bool:
        """Whether the rows of a value are few and neighbours, as in rows that are in order."""
        left, right, union = self.distinct
        is_part = self.rows > SAMPLE_ROWS
        is_many = union > _DISTINCT_SHARE_TOGETHER_MAX * self.looked_at
        return is_part and is_many and left + right == union

    @property
    def distinct_bytes(self) -> float:
        """About how large the distinct values are that the sample stands for.

        What its halves have in common tells how many there are to be found. If it is nothing, they
        are ever new ones, as in rows that are in order.
        """
        left, right, union = self.distinct
        found = left * right / max(1, left + right - union)
        scale = max(1.0, self.rows / SAMPLE_ROWS)
        return float(min(found, scale * union) * self.value_bytes)


def _halves(batches: Sequence[pa.RecordBatch], rows: int) -> tuple[pa.Table, pa.Table]:
    """Return two halves of a sample: runs of rows from the whole length of them in turn."""
    plain = [
        {field.name for field in batch.schema if not types.is_dictionary(field.type)}
        for batch in batches
    ]
    # Texts may come as dictionaries, which differ.
    names = [name for name in batches[0].schema.names if all(name in some for some in plain)]
    table = pa.Table.from_batches([batch.select(names) for batch in batches])
    if rows <= SAMPLE_ROWS:
        return table.slice(0, rows // 2), table.slice(rows // 2)
    length = SAMPLE_ROWS // _RUNS
    starts = [(rows - length) * run // (_RUNS - 1) for run in range(_RUNS)]
    runs = [table.slice(start, length) for start in starts]
    return pa.concat_tables(runs[::2]), pa.concat_tables(runs[1::2])


def _leaves(half: pa.Table) -> Iterator[tuple[str, pa.Array]]:
    for field, column in zip(half.schema, half.columns, strict=True):
        yield from _numbers(column.combine_chunks(), field.name)


def _numbers(array: pa.Array, path: str) -> Iterator[tuple[str, pa.Array]]:
    if types.is_struct(array.type):
        for index in range(array.type.num_fields):
            name = array.type.field(index).name
            yield from _numbers(array.field(index), f"{path}.{name}")
    elif types.is_map(array.type):
        for name, values in (("key", array.keys), ("value", array.items)):
            yield from _numbers(list_parts(array, values)[1], f"{path}.key_value.{name}")
    elif is_list(array.type):
        yield from _numbers(array.flatten(), f"{path}.list.element")
    elif any(is_kind(array.type) for is_kind in _KINDS):
        yield path, array
