"""Check a footer before it is looked at: Arrow ends the process over some damaged ones.

That happens when Python asks for a column's part of the footer; Arrow's reader turns the same
damage into an error. So it is made to open every column of every row group over a file that holds
nothing: a footer is sound when the reader goes on to ask for the first page.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.storage import ByteRange
from catalog.storage.input import InputFile

# Any buffer will do: without one the reader fetches pages before it has opened all columns.
_BUFFER_BYTES = 1 << 10


class _Unreadable(InputFile):
    """A file that is always at its end, and notes that it was read."""

    is_reached = False

    def _fetch(self, wanted: ByteRange) -> pa.Buffer:
        # An exception would do as well, but Arrow writes down the traceback of each.
        self.is_reached = True
        return pa.py_buffer(b"")


def check_footer(metadata: pq.FileMetaData, size_bytes: int) -> None:
    """Open every column of a file without reading any.

    Args:
        metadata: the footer.
        size_bytes: size of the file.

    Raises:
        OSError: the footer is damaged.
        ValueError: its parts contradict each other.
    """
    _open_all_columns(metadata, size_bytes)
    paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    rows = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        rows += group.num_rows
        if [group.column(place).path_in_schema for place in range(group.num_columns)] != paths:
            raise ValueError(f"the columns of row group {index} are not those of the schema")
    if rows != metadata.num_rows:
        raise ValueError(f"the row groups have {rows} rows, the file {metadata.num_rows}")


def _open_all_columns(metadata: pq.FileMetaData, size_bytes: int) -> None:
    content = _Unreadable(size_bytes)
    file = pq.ParquetFile(
        pa.PythonFile(content, mode="r"),
        metadata=metadata,
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
    )
    for index in range(metadata.num_row_groups):
        batches = file.iter_batches(batch_size=1, row_groups=[index], use_threads=False)
        content.is_reached = False
        try:
            next(batches, None)
        except (pa.ArrowException, OSError):
            if not content.is_reached:
                raise
