"""The file slices of a large plan as Parquet: one row per file, in the order of the groups.

What is known of the groups, and of the plan, is a document in the file's metadata. Rows of data
files and of delete files share their columns; a page that was damaged does not pass its checksum.
No Python object per file comes into being on the way in or out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.model import DATA_FILES, DELETE_FILES, Inventory
from compactor.planner.columns import Ints
from compactor.planner.deferred import RUN_ROWS, GroupSizes, deferred
from compactor.planner.slicing import constant_column

MAGIC = b"PAR1"
_HEADER = b"compact.plan"
_GROUP, _IS_DELETE = "group", "is_delete"
_PARTITION = ("partition_key", "partition")
# What is read of all rows, to know the groups.
_TELLING = (_GROUP, _IS_DELETE, "size_bytes")


def _schema() -> pa.Schema:
    """Return the columns of both kinds of files, and what tells them apart."""
    own = [field for field in DATA_FILES if field.name not in _PARTITION]
    known = {field.name for field in own}
    others = [field for field in DELETE_FILES if field.name not in known]
    fields = [field.with_nullable(True) for field in (*own, *others)]
    return pa.schema([pa.field(_GROUP, pa.int32()), pa.field(_IS_DELETE, pa.bool_()), *fields])


_ROWS = _schema()


def encode_rows(header: bytes, groups: Iterable[Inventory]) -> bytes:
    """Return the content of a file.

    Args:
        header: a document about the groups, in their order.
        groups: their file slices.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        _ROWS.with_metadata({_HEADER: header}),
        compression="zstd",
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        for run in _runs(groups):
            writer.write_table(run, row_group_size=run.num_rows)
        writer.add_key_value_metadata({_HEADER.decode(): header.decode()})
    return bytes(sink.getvalue().to_pybytes())


def read_header(data: bytes) -> bytes:
    """Return the document of a file.

    Raises:
        ArrowInvalid, ValueError: it is no such file.
    """
    metadata = pq.read_metadata(pa.BufferReader(data)).metadata or {}
    if _HEADER not in metadata:
        raise ValueError("a Parquet file, but not that of a plan")
    return bytes(metadata[_HEADER])


def decode_rows(data: bytes, partitions: Sequence[tuple[str, str]]) -> list[Inventory]:
    """Return the file slices of each group; they are read when somebody asks for them.

    Args:
        data: the content of a file.
        partitions: key and label of the partition of each group.

    Raises:
        ArrowInvalid, ValueError: it is damaged.
    """
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    found = file.schema_arrow
    if found.names != _ROWS.names or any(
        found.field(name).type != _ROWS.field(name).type for name in _TELLING
    ):
        raise ValueError(f"its columns are not those of a plan: {', '.join(found.names)}")
    columns = file.read(columns=list(_TELLING))
    if any(columns[name].null_count for name in _TELLING):
        raise ValueError("rows that do not tell what they are")
    groups, is_delete = _column(columns, _GROUP), _column(columns, _IS_DELETE).astype(bool)
    if np.any(np.diff(groups) < 0) or np.any(groups < 0):
        raise ValueError("the groups are not in order")
    if len(groups) and groups[-1] >= len(partitions):
        raise ValueError("there are more groups than the plan has")
    ends = np.searchsorted(groups, np.arange(len(partitions)), side="right")
    size_bytes = np.where(is_delete, 0, _column(columns, "size_bytes"))
    sizes = GroupSizes(
        *(_per_group(groups, one, len(partitions)) for one in (~is_delete, size_bytes, is_delete))
    )
    return deferred(_Reading(file, ends, partitions), sizes)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads the rows of some groups.

    Attributes:
        file: the file.
        ends: where the rows of each group end.
        partitions: key and label of the partition of each group.
    """

    file: pq.ParquetFile
    ends: Ints
    partitions: Sequence[tuple[str, str]]

    def __call__(self, numbers: range) -> list[Inventory]:
        """Return the file slices of the groups with these numbers."""
        start = int(self.ends[numbers.start - 1]) if numbers.start else 0
        end = int(self.ends[numbers.stop - 1])
        counts = [self.file.metadata.row_group(i).num_rows for i in range(self.file.num_row_groups)]
        row_groups = np.cumsum([0, *counts])
        first = int(np.searchsorted(row_groups, start, side="right")) - 1
        last = int(np.searchsorted(row_groups, end))
        wanted = list(range(max(first, 0), last)) if start < end else []
        rows = self.file.read_row_groups(wanted).slice(start - int(row_groups[first]), end - start)
        return list(_inventories(rows, numbers, self.partitions))


def _per_group(groups: Ints, values: npt.NDArray[Any], count: int) -> Ints:
    """Add values up by group."""
    sums = np.zeros(count, np.int64)
    np.add.at(sums, groups, values)
    return sums


def _runs(groups: Iterable[Inventory]) -> Iterator[pa.Table]:
    """Yield the rows of some groups at a time."""
    run: list[pa.Table] = []
    count = 0
    for number, group in enumerate(groups):
        run += [_rows(group.files, number, False), _rows(group.delete_files, number, True)]
        count += group.files.num_rows + group.delete_files.num_rows
        if count >= RUN_ROWS:
            yield pa.concat_tables(run)
            run, count = [], 0
    if run:
        yield pa.concat_tables(run)


def _rows(files: pa.Table, group: int, is_delete: bool) -> pa.Table:
    count = files.num_rows
    told = {
        _GROUP: pa.array(np.full(count, group, np.int32)),
        _IS_DELETE: pa.array(np.full(count, is_delete)),
    }
    columns = [
        told[field.name]
        if field.name in told
        else files[field.name]
        if field.name in files.column_names
        else pa.nulls(count, field.type)
        for field in _ROWS
    ]
    return pa.table(columns, schema=_ROWS)


def _inventories(
    rows: pa.Table, numbers: range, partitions: Sequence[tuple[str, str]]
) -> Iterator[Inventory]:
    groups, is_delete = _column(rows, _GROUP), _column(rows, _IS_DELETE)
    for number in numbers:
        start, end = np.searchsorted(groups, [number, number + 1])
        middle = int(start) + int(np.count_nonzero(~is_delete[start:end].astype(bool)))
        files = rows.slice(int(start), middle - int(start))
        deletes = rows.slice(middle, int(end) - middle)
        yield Inventory(_data_files(files, *partitions[number]), _own(deletes, DELETE_FILES))


def _data_files(rows: pa.Table, key: str, label: str) -> pa.Table:
    told = {"partition_key": key, "partition": label}
    columns = [
        constant_column(told[name], rows.num_rows) if name in told else rows[name]
        for name in DATA_FILES.names
    ]
    return pa.table(columns, names=DATA_FILES.names).cast(DATA_FILES).combine_chunks()


def _own(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    return rows.select(schema.names).cast(schema).combine_chunks()


def _column(rows: pa.Table, name: str) -> Ints:
    values: Ints = rows[name].to_numpy()
    return values
