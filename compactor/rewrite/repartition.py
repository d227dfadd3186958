"""Rewrite one file group into other partitions: rows are parted on local disk, then written.

Outputs lie where the group's partition has them, under the names of the attempt: a format that
can do this finds files by its metadata alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import cast

import numpy as np
import pyarrow as pa

from catalog.errors import UnsupportedTableError
from catalog.spill import SpillFile
from compactor.rewrite.calendars import layout_of
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.fingerprint import digest_batch
from compactor.rewrite.footers import Footers
from compactor.rewrite.group import carry_out, surviving_bytes
from compactor.rewrite.read import SliceReader
from compactor.rewrite.rolling import Progress
from compactor.rewrite.task import (
    EMPTY_DIGEST,
    NOT_SPLICED,
    Proof,
    RewriteResult,
    RewriteTask,
    RowDigest,
    Spliced,
)
from compactor.rewrite.write import Destination, RollingWriter

# Each has an open file while rows are parted.
_PARTITIONS_MAX = 512


def repartition_group(task: RewriteTask) -> RewriteResult:
    """Write the surviving rows of a file group into files of the partitions that they belong to.

    Raises:
        StorageFullError: there is no room on local disk for the rows.
        UnsupportedTableError: the rows belong to too many partitions, or to none that can be told.
        CatalogError, VerificationError: as `rewrite_group` raises them.
    """
    return carry_out(task, _Work)


class _PartitionedWriter(RollingWriter):
    """Writes the outputs of one attempt, partition by partition."""

    def begin(self, stored_bytes: float) -> None:
        """Begin a partition whose rows take so much."""
        self._progress = Progress(unread_bytes=stored_bytes)

    def end(self, partition_key: str) -> None:
        """End the files of a partition."""
        first = sum(bool(file.partition_key) for file in self.files)
        self.finish()
        named = [replace(file, partition_key=partition_key) for file in self.files[first:]]
        self.files[first:] = named


class _Work:
    """One file group on its way through local disk."""

    def __init__(self, task: RewriteTask) -> None:
        self._task = task
        footers = Footers(task.table, held_bytes_max=0)
        layout = layout_of(task.table, task.files.slices(), footers)
        self._encoding = Encoding.of(task.table.schema, layout)
        self.reader = SliceReader.of(task.table, task.files)
        self._schema = self.reader.schema.arrow

    def writer(self) -> _PartitionedWriter:
        """Return the writer of the outputs."""
        task = self._task
        return _PartitionedWriter(
            Destination(task.table, task.partition_key, task.attempt_id),
            self._encoding,
            target_bytes=task.target_file_size_bytes,
            stored_bytes=0.0,
        )

    def run(self, writer: RollingWriter) -> RowDigest:
        """Write everything; the digest of the surviving rows is empty without full proof."""
        parted, digest = cast(_PartitionedWriter, writer), EMPTY_DIGEST
        rows: dict[str, int] = {}
        with ExitStack() as stack:
            waiting: dict[str, SpillFile] = {}
            for batch in self._batches():
                if self._task.proof is Proof.FULL:
                    digest += digest_batch(batch)
                for key, some in self._parted(batch):
                    if key not in waiting:
                        waiting[key] = self._begun(stack, len(waiting))
                    waiting[key].append(some)
                    rows[key] = rows.get(key, 0) + some.num_rows
            stored = surviving_bytes(self.reader, self._task.files)
            row_bytes = stored / max(1, sum(rows.values()))
            for key in sorted(waiting):
                parted.begin(rows[key] * row_bytes)
                for batch in waiting[key].batches():
                    parted.add(batch, stored_bytes=batch.num_rows * row_bytes)
                parted.end(key)
                waiting[key].close()
        return digest

    def _begun(self, stack: ExitStack, count: int) -> SpillFile:
        if count >= _PARTITIONS_MAX:
            raise UnsupportedTableError(
                f"the rows of one group belong to more than {_PARTITIONS_MAX} new partitions",
                hint="rewrite less at once with --max-group-size",
            )
        file = SpillFile(self._schema)
        stack.callback(file.close)
        return file

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for file in self._task.files.slices():
            for batch in self.reader.batches(file):
                yield pa.RecordBatch.from_arrays(
                    [_plain(column) for column in batch.columns], schema=self._schema
                )

    def _parted(self, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Yield the rows of each partition, in their order."""
        keys = self._task.table.partition_keys(pa.Table.from_batches([batch]))
        codes = np.asarray(keys.indices)
        order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[order], return_index=True)
        ordered = batch.take(pa.array(order))
        ends = [*starts[1:].tolist(), len(order)]
        for code, start, end in zip(present.tolist(), starts.tolist(), ends, strict=True):
            yield keys.dictionary[code].as_py(), ordered.slice(start, end - start)

    def spliced(self, files: object) -> Spliced:
        """Tell that nothing was copied."""
        del files
        return NOT_SPLICED


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
