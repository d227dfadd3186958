"""The file slices of a large plan as Parquet: one row per file, in the order of the groups.

What is known of the groups, and of the plan, is a document in the file's metadata. Rows of data
files and of delete files share their columns; a page that was damaged does not pass its checksum.
No Python object per file comes into being on the way in or out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.model import DATA_FILES, DELETE_FILES, Inventory
from compactor.planner.columns import Ints
from compactor.planner.slicing import constant_column

MAGIC = b"PAR1"
_HEADER = b"compact.plan"
_GROUP, _IS_DELETE = "group", "is_delete"
_PARTITION = ("partition_key", "partition")
_RUN_ROWS = 64 << 10


def _schema() -> pa.Schema:
    """Return the columns of both kinds of files, and what tells them apart."""
    own = [field for field in DATA_FILES if field.name not in _PARTITION]
    known = {field.name for field in own}
    others = [field for field in DELETE_FILES if field.name not in known]
    fields = [field.with_nullable(True) for field in (*own, *others)]
    return pa.schema([pa.field(_GROUP, pa.int32()), pa.field(_IS_DELETE, pa.bool_()), *fields])


_ROWS = _schema()


def encode_rows(header: bytes, groups: Sequence[Inventory]) -> bytes:
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


def decode_rows(data: bytes, partitions: Sequence[tuple[str, str]]) -> Iterator[Inventory]:
    """Yield the file slices of each group.

    Args:
        data: the content of a file.
        partitions: key and label of the partition of each group.

    Raises:
        ArrowInvalid, ValueError: it is damaged.
    """
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    found = file.schema_arrow
    if found.names != _ROWS.names or any(
        found.field(name).type != _ROWS.field(name).type for name in (_GROUP, _IS_DELETE)
    ):
        raise ValueError(f"its columns are not those of a plan: {', '.join(found.names)}")
    held: list[pa.Table] = []
    following = 0
    for number in range(file.num_row_groups):
        held.append(file.read_row_group(number))
        rows = pa.concat_tables(held)
        groups = _column(rows, _GROUP)
        last = int(groups[-1]) if len(groups) else following
        done = int(np.searchsorted(groups, last))
        yield from _inventories(rows.slice(0, done), range(following, last), partitions)
        held, following = [rows.slice(done).combine_chunks()], last
    rest = pa.concat_tables(held) if held else _ROWS.empty_table()
    yield from _inventories(rest, range(following, len(partitions)), partitions)


def _runs(groups: Sequence[Inventory]) -> Iterator[pa.Table]:
    """Yield the rows of some groups at a time."""
    run: list[pa.Table] = []
    count = 0
    for number, group in enumerate(groups):
        run += [_rows(group.files, number, False), _rows(group.delete_files, number, True)]
        count += group.files.num_rows + group.delete_files.num_rows
        if count >= _RUN_ROWS:
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
    if len(groups) and (np.any(np.diff(groups) < 0) or groups[0] < numbers.start):
        raise ValueError("the groups are not in order")
    if len(groups) and groups[-1] >= len(partitions):
        raise ValueError("there are more groups than the plan has")
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
