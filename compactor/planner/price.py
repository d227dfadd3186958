"""Price a file group before anything runs: bytes, memory, CPU time and storage requests, per rung.

The constants are measured ones of the engine that the rung runs on; profiles of past jobs know
better where they exist.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.layout import FileLayout
from compactor.planner.plan import Price, Rung
from compactor.planner.policy import GIB, MIB
from compactor.planner.width import UNKNOWN_WIDTH, RowWidth

# Private memory of a worker that copies: Arrow and its Parquet reader and writer loaded.
_PROCESS_BYTES = 44 * MIB
# A row group is collected decoded; beside it are the pages of one column, as they were read and as
# they are encoded, and what allocators keep; but it is often cut smaller than it may be.
_ROW_GROUP_COPIES = 1.0
# The file that is read, up to so much of it, and a batch of its rows.
_READ_BYTES_MAX = 8 * MIB
_ARROW_EXPANSION = 5.3
# A deleted position as it is read, with its path, before any row is; and as it is kept.
_DELETE_READ_BYTES = 32
_DELETE_KEPT_BYTES = 8
_TRANSCODE_CPU_SECONDS_PER_BYTE = 40 / GIB
# A key that rows are deleted by, once it is joined with the rows: held once, or set aside on disk.
_KEY_BYTES = 128
_KEYS_BYTES_MAX = 96 * MIB
# Keys, two gathers of every row, and the way over the disk.
_SORT_CPU_SECONDS_PER_BYTE = 12 / GIB
# Rows as they came, and as they go.
_SORTED_COPIES = 2
# Copied by the kernel, footers and page indexes rewritten.
_SPLICE_CPU_SECONDS_PER_BYTE = 1.3 / GIB
# Asked for in parts and looked at afterwards.
_COMPOSE_CPU_SECONDS_PER_BYTE = 0.1 / GIB
_COMPOSE_REQUEST_BYTES = 64 * MIB
# Open, footer, schema mapping; a delete file has few and small columns.
_FILE_CPU_SECONDS = 0.005
# Column chunks of neighbouring columns are fetched together, up to about this size.
_READ_REQUEST_BYTES = 16 * MIB
_WRITE_REQUEST_BYTES = 8 * MIB
# Size and footer of a file before its first data.
_OPEN_REQUESTS = 2
# Begin and end of an upload, and the footer read back to check it.
_CREATE_REQUESTS = 3


@dataclass(frozen=True, slots=True)
class GroupSize:
    """What there is to do for one group.

    Attributes:
        files: data files read.
        input_bytes: their bytes.
        delete_files: delete files read.
        delete_bytes: their bytes.
        delete_rows: rows in them that name positions.
        output_bytes: estimate of the bytes written.
        output_files: estimate of the files written.
        spliced_bytes: estimate of the bytes that are copied as they are.
        composed_bytes: the part of them that the store copies by itself.
        kept_rows: estimate of the rows that survive.
        stretch_rows: estimate of those in the longest stretch that is encoded, with nothing copied
            in it.
        encoded_file_bytes: the largest file of which rows are encoded.
        key_rows: rows of delete files that name rows by their values.
        sort_memory_bytes: what its rows may take in memory while they are sorted; 0 when they
            keep their order.
    """

    files: int
    input_bytes: int
    delete_files: int
    delete_bytes: int
    delete_rows: int
    output_bytes: int
    output_files: int
    spliced_bytes: int = 0
    composed_bytes: int = 0
    sort_memory_bytes: int = 0
    kept_rows: int = 0
    stretch_rows: int = 0
    encoded_file_bytes: int = 0
    key_rows: int = 0

    @property
    def rung(self) -> Rung:
        """How its bytes move."""
        if self.sort_memory_bytes:
            return Rung.CLUSTER
        if not self.spliced_bytes:
            return Rung.TRANSCODE
        if self.spliced_bytes < self.input_bytes:
            return Rung.MIXED
        return Rung.COMPOSE if self.composed_bytes >= self.input_bytes else Rung.SPLICE


def price_group(size: GroupSize, layout: FileLayout, width: RowWidth = UNKNOWN_WIDTH) -> Price:
    """Price a group on its rung of the cost ladder."""
    memory = _PROCESS_BYTES + max(
        _DELETE_READ_BYTES * size.delete_rows + min(_KEY_BYTES * size.key_rows, _KEYS_BYTES_MAX),
        _DELETE_KEPT_BYTES * (size.delete_rows + size.key_rows)
        + _transcoding_bytes(size, layout, width),
    )
    memory += min(size.sort_memory_bytes, _SORTED_COPIES * _ARROW_EXPANSION * size.input_bytes)
    is_sorted = size.rung is Rung.CLUSTER
    per_byte = _TRANSCODE_CPU_SECONDS_PER_BYTE + is_sorted * _SORT_CPU_SECONDS_PER_BYTE
    read_bytes = size.input_bytes + size.delete_bytes
    opened = size.files + size.delete_files
    return Price(
        input_bytes=size.input_bytes,
        delete_bytes=size.delete_bytes,
        output_bytes_estimate=size.output_bytes,
        memory_bytes_estimate=int(memory),
        cpu_seconds_estimate=round(
            (read_bytes - size.spliced_bytes) * per_byte
            + (size.spliced_bytes - size.composed_bytes) * _SPLICE_CPU_SECONDS_PER_BYTE
            + size.composed_bytes * _COMPOSE_CPU_SECONDS_PER_BYTE
            + _FILE_CPU_SECONDS * (opened + size.output_files),
            3,
        ),
        requests_estimate=_requests(size),
        splice_bytes_estimate=size.spliced_bytes,
        compose_bytes_estimate=size.composed_bytes,
    )


def price_recording(size: GroupSize) -> Price:
    """Price a group whose deletes are recorded anew: keys are joined, no data file is written.

    Args:
        size: with the bytes of the columns that are compared as input, and the delete files to be
            written as output.
    """
    names_rows = size.delete_rows + size.key_rows
    memory = (
        _PROCESS_BYTES
        + min(_KEY_BYTES * size.key_rows, _KEYS_BYTES_MAX)
        + _DELETE_READ_BYTES * size.delete_rows
        + _DELETE_KEPT_BYTES * names_rows
        + min(size.input_bytes, _READ_BYTES_MAX)
    )
    opened = size.files + size.delete_files
    return Price(
        input_bytes=size.input_bytes,
        delete_bytes=size.delete_bytes,
        output_bytes_estimate=size.output_bytes,
        memory_bytes_estimate=int(memory),
        cpu_seconds_estimate=round(
            (size.input_bytes + size.delete_bytes) * _TRANSCODE_CPU_SECONDS_PER_BYTE
            + _FILE_CPU_SECONDS * (opened + size.output_files),
            3,
        ),
        requests_estimate=_requests(size),
    )


def _transcoding_bytes(size: GroupSize, layout: FileLayout, width: RowWidth) -> float:
    """Return what a worker holds that collects one row group after the other and encodes it.

    Copies x min(rows that follow each other, rows of a row group) x row, the row group cut to its
    limit in bytes, + the file that is read meanwhile. The size of a row follows from its types;
    values of varying length from the bytes on storage. What is copied goes through no memory to
    speak of, and ends a row group.
    """
    row_bytes = width.of(size.output_bytes / max(1, size.kept_rows))
    rows = min(size.stretch_rows, layout.row_group_rows_max)
    held_bytes = min(rows * row_bytes, layout.row_group_size_bytes)
    return _ROW_GROUP_COPIES * held_bytes + min(size.encoded_file_bytes, _READ_BYTES_MAX)


def _requests(size: GroupSize) -> int:
    """Return the calls to the storage; what the store copies is neither read nor written."""
    opened = size.files + size.delete_files
    read_bytes = size.input_bytes + size.delete_bytes - size.composed_bytes
    return (
        _OPEN_REQUESTS * opened
        + max(opened, read_bytes // _READ_REQUEST_BYTES)
        + _CREATE_REQUESTS * size.output_files
        + max(0, size.output_bytes - size.composed_bytes) // _WRITE_REQUEST_BYTES
        + -(-size.composed_bytes // _COMPOSE_REQUEST_BYTES)
    )
